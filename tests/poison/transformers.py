raise ImportError("transformers must not be imported here")
