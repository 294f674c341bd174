"""What the agent imports as TensorRT-RTX in the tests; ``$FAKE_TENSORRT_RTX`` says which version it shall be."""

import os
import sys

import fake_cuda
import fake_tensorrt

fake_cuda.be_the_only_gpu()
sys.modules[__name__] = fake_tensorrt.as_version(os.environ.get("FAKE_TENSORRT_RTX", "1.7.1"), __name__)
