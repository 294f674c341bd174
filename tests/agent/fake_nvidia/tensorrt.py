"""What the agent imports as TensorRT in the tests; ``$FAKE_TENSORRT`` says which version it shall be."""

import os
import sys

import fake_cuda
import fake_tensorrt

fake_cuda.be_the_only_gpu()
sys.modules[__name__] = fake_tensorrt.as_version(os.environ.get("FAKE_TENSORRT", "10.3.0"), __name__)
