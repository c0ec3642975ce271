"""Core ML: conversion, and an interpreter that proves its packages where there is no Core ML."""
