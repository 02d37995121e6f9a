"""Formats of export, one file each."""
