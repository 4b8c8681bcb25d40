raise ImportError("isal must not be imported here")
