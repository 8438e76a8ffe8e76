"""Predictions by ONNX Runtime."""
