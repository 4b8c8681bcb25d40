raise ImportError("onnxruntime must not be imported here")
