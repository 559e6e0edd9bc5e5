"""Worlds that `worldsim export` wrote, played through onnxruntime: nothing here needs torch."""
