"""The exercises, one module for each lesson. Imports everything below."""
