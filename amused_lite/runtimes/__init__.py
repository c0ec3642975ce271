"""Engines that run the modules of a model: arrays in, arrays out. One file per engine, imported only when chosen."""
