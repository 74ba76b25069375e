"""Openly licensed collections, downloaded and unpacked."""
