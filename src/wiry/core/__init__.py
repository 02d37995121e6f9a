"""The nouns every other room shares: mask, state, registry, recipe, run, random streams.

Imports nothing else of wiry; packages are named by string and imported when a registry is first
asked.
"""
