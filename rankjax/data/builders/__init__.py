"""TFDS builders that read the field's original archives, without TensorFlow."""

from rankjax.data.builders.benchmark import Benchmark

__all__ = ["Benchmark"]
