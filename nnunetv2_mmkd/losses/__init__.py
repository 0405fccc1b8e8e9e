"""Distillation terms as pure functions of tensors."""
