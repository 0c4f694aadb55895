"""LiteRT, which runs everything here by XNNPACK. convert writes the .tflite file itself, operator by operator, since
the converters want PyTorch or TensorFlow: NHWC, HARD_SWISH as an operator, ReLU and hard-sigmoid's clamp inside the
convolution, padding of strided convolutions as a PAD that XNNPACK merges."""

import importlib.metadata

import numpy as np


def convert(onnx, model):
    import flatbuffers
    import onnx as format
    from ai_edge_litert import schema_py_generated as schema

    graph = format.load(onnx).graph
    builder = Builder(schema, {t.name: format.numpy_helper.to_array(t) for t in graph.initializer})
    side = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    builder.names["image"] = builder.tensor("image", (1, side, side, 3))
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    merged = set()
    for node in graph.node:
        if node.name not in merged:
            follower = users.get(node.output[0], [None])
            merged.add(
                builder.node(node, follower[0] if len(follower) == 1 else None, format.helper.get_attribute_value)
            )
    buffer = flatbuffers.Builder(64 << 20)
    buffer.Finish(builder.model(graph.output[0].name).Pack(buffer), b"TFL3")
    with open(model, "wb") as file:
        file.write(buffer.Output())


class Builder:
    """A graph in TensorFlow Lite's schema. names maps ONNX's values to tensors here."""

    def __init__(self, schema, weights):
        self.schema, self.weights = schema, weights
        self.names = {}
        self.shapes = []
        self.tensors, self.operators, self.codes = [], [], []
        self.buffers = [schema.BufferT()]  # the first is for what has no data

    def tensor(self, name, shape, data=None):
        one = self.schema.TensorT()
        one.name, one.shape, one.type, one.buffer = name, list(shape), self.schema.TensorType.FLOAT32, 0
        if data is not None:
            if data.dtype == np.int32:
                one.type = self.schema.TensorType.INT32
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            one.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(one)
        self.shapes.append(tuple(shape))
        return len(self.tensors) - 1

    def constant(self, name, data):
        return self.tensor(name, data.shape, data)

    def operator(self, code, inputs, name, shape, options=None, **fields):
        one = self.schema.OperatorT()
        number = getattr(self.schema.BuiltinOperator, code)
        if number not in self.codes:
            self.codes.append(number)
        one.opcodeIndex, one.inputs = self.codes.index(number), inputs
        if options:
            one.builtinOptions = getattr(self.schema, options + "T")()
            one.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            for key, value in fields.items():
                setattr(one.builtinOptions, key, value)
        out = self.tensor(name, shape)
        one.outputs = [out]
        self.operators.append(one)
        return out

    def node(self, node, follower, value_of):
        """Adds an ONNX node, and with it the following activation if it can be part of it: returns that one's name."""
        at = {a.name: value_of(a) for a in node.attribute}
        inputs = [self.names[i] for i in node.input if i in self.names]
        shape = self.shapes[inputs[0]]
        name, kind = node.output[0], node.op_type
        activation = self.schema.ActivationFunctionType
        if kind == "Conv":
            fused = {"Relu": activation.RELU, "HardSigmoid": activation.RELU6}.get(
                follower and follower.op_type, activation.NONE
            )
            out = self.conv(node, inputs[0], at, fused, lift=3 if fused == activation.RELU6 else 0)
            if fused == activation.RELU6:
                sixth = self.constant(name + ".sixth", np.array([1 / 6], np.float32))
                out = self.operator(
                    "MUL", [out, sixth], follower.output[0], self.shapes[out], "MulOptions", fusedActivationFunction=0
                )
            if fused != activation.NONE:
                self.names[follower.output[0]] = out
                return follower.name
        elif kind == "HardSwish":
            out = self.operator("HARD_SWISH", inputs, name, shape)
        elif kind in ("Add", "Mul"):
            out = self.operator(kind.upper(), inputs, name, shape, kind + "Options", fusedActivationFunction=0)
        elif kind == "GlobalAveragePool":
            axes = self.constant(name + ".axes", np.array([1, 2], np.int32))
            out = self.operator("MEAN", [*inputs, axes], name, (1, 1, 1, shape[3]), "ReducerOptions", keepDims=True)
        elif kind == "Flatten":
            to = np.array([1, shape[3]], np.int32)
            out = self.operator(
                "RESHAPE", [*inputs, self.constant(name + ".shape", to)], name, tuple(to), "ReshapeOptions", newShape=to
            )
        elif kind == "Gemm":
            weight, bias = (self.constant(i, self.weights[i]) for i in node.input[1:])
            out = self.operator(
                "FULLY_CONNECTED", [*inputs, weight, bias], name, (1, self.shapes[weight][0]), "FullyConnectedOptions"
            )
        else:
            raise SystemExit(f"litert: no way to write a {kind}")
        self.names[name] = out
        return None

    def conv(self, node, x, at, activation, lift):
        weight = self.weights[node.input[1]]
        bias = self.weights[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        k, stride, depthwise = weight.shape[2], at["strides"][0], at["group"] > 1
        _, h, w, channels = self.shapes[x]
        padding = self.schema.Padding.SAME
        if stride == 2 and h % 2 == 0 and k > 1:  # SAME would pad less in front than behind
            pads = np.array([[0, 0], [k // 2, k // 2 - 1], [k // 2, k // 2 - 1], [0, 0]], np.int32)
            x = self.operator(
                "PAD",
                [x, self.constant(node.name + ".pads", pads)],
                node.name + ".padded",
                (1, h + k - 1, w + k - 1, channels),
            )
            padding = self.schema.Padding.VALID
        out = (1, -(-h // stride), -(-w // stride), len(weight))
        constants = [
            self.constant(
                node.name + ".weight", weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
            ),
            self.constant(node.name + ".bias", bias + np.float32(lift)),
        ]
        code, options, extra = "CONV_2D", "Conv2DOptions", {}
        if depthwise:
            code, options, extra = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", {"depthMultiplier": 1}
        extra |= {"padding": padding, "strideH": stride, "strideW": stride, "fusedActivationFunction": activation}
        return self.operator(code, [x, *constants], node.output[0], out, options, **extra)

    def model(self, output):
        graph = self.schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [self.names["image"]], [self.names[output]]
        model = self.schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, []
        for number in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            model.operatorCodes.append(code)
        return model


def load(model, image, classes, threads):
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model, num_threads=threads)
    net.allocate_tensors()
    source = net.get_input_details()[0]["index"]
    sink = net.get_output_details()[0]["index"]

    def fill():
        net.set_tensor(source, image)

    return importlib.metadata.version("ai-edge-litert"), fill, net.invoke, lambda: net.get_tensor(sink)
