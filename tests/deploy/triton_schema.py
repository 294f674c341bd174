"""What hwnas writes of Triton's ``protobuf/model_config.proto``: names, numbers and types as they stand there."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = ["INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32"]
_ENUMS = {
    "DataType": [f"TYPE_{name}" for name in _TYPES],
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}
_MESSAGES = {
    "Latest": [("num_versions", 1, "uint32")],
    "ModelVersionPolicy": [("latest", 1, "Latest")],
    "ModelInput": [("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "int64*")],
    "ModelOutput": [
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 3, "int64*"),
        ("label_filename", 4, "string"),
    ],
    "ModelInstanceGroup": [("kind", 4, "Kind"), ("count", 2, "int32")],
    "Accelerator": [("name", 1, "string")],
    "ExecutionAccelerators": [("gpu_execution_accelerator", 1, "Accelerator*")],
    "ModelOptimizationPolicy": [("execution_accelerators", 4, "ExecutionAccelerators")],
    "ModelConfig": [
        ("name", 1, "string"),
        ("platform", 2, "string"),
        ("version_policy", 3, "ModelVersionPolicy"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "ModelInput*"),
        ("output", 6, "ModelOutput*"),
        ("instance_group", 7, "ModelInstanceGroup*"),
        ("optimization", 12, "ModelOptimizationPolicy"),
    ],
}
_FIELD = descriptor_pb2.FieldDescriptorProto


def model_config() -> Any:
    """An empty ModelConfig, which the text form can be read into."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
            base = kind.rstrip("*")
            if base in _ENUMS or base in _MESSAGES:
                added.type = _FIELD.TYPE_ENUM if base in _ENUMS else _FIELD.TYPE_MESSAGE
                added.type_name = f".inference.{base}"
            else:
                added.type = _FIELD.Type.Value(f"TYPE_{base.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
