"""Helpers for the AWS runbooks: one folder a concern, imported by the notebooks."""
