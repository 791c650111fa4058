"""Retire-Cluster: retired phones, laptops and small boards as one work cluster."""

__version__ = "0.1.0"
