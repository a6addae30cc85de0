"""Experiments that run on top of rankjax."""
