"""From a distribution over tokens to a picture's tokens: settings, schedule, noise and the loop. NumPy only."""
