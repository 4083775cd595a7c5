"""Compares the messages and calls of Retort's inference.GRPCInferenceService with those of tritonclient:
every field must be one of Triton's, with the same number, type and label.

    compare_descriptors.py FILE_DESCRIPTOR_SET
"""

import pathlib
import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

SERVICE = "GRPCInferenceService"


def main():
    ours = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(sys.argv[1]).read_bytes())
    ours = merge(file for file in ours.file if file.package == "inference")
    theirs = merge(describe_file(module) for module in (model_config_pb2, service_pb2))

    differences = compare_messages("", ours.message_type, theirs.message_type)
    differences += compare_calls(ours, theirs)
    for difference in differences:
        print(difference)
    print("compared", ", ".join(message.name for message in ours.message_type))
    sys.exit(bool(differences))


def merge(files):
    merged = descriptor_pb2.FileDescriptorProto()
    for file in files:
        merged.message_type.extend(file.message_type)
        merged.service.extend(file.service)
    return merged


def describe_file(module):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def compare_messages(prefix, ours, theirs):
    theirs = {message.name: message for message in theirs}
    differences = []
    for message in ours:
        name = prefix + message.name
        if message.name not in theirs:
            differences.append(f"{name}: Triton has no such message")
            continue
        other = theirs[message.name]
        other_fields = {field.name: describe(field) for field in other.field}
        for field in message.field:
            found, expected = describe(field), other_fields.get(field.name)
            if found != expected:
                differences.append(f"{name}.{field.name}: is {found}, Triton has {expected}")
        differences += compare_messages(name + ".", message.nested_type, other.nested_type)
    return differences


def compare_calls(ours, theirs):
    (ours,) = (service for service in ours.service if service.name == SERVICE)
    (theirs,) = (service for service in theirs.service if service.name == SERVICE)
    other_calls = {call.name: describe_call(call) for call in theirs.method}
    return [
        f"{call.name}: is {describe_call(call)}, Triton has {other_calls.get(call.name)}"
        for call in ours.method
        if describe_call(call) != other_calls.get(call.name)
    ]


def describe(field):
    return field.number, field.type, field.label, field.type_name


def describe_call(call):
    return call.input_type, call.output_type, call.client_streaming, call.server_streaming


if __name__ == "__main__":
    main()
