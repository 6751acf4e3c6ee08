"""Filters as ONNX models, written with `onnx` and run with `onnxruntime`."""

from collections.abc import Callable

import numpy as np

import mesa_jax
from mesa_jax.bridges import needed

EXTRA = "onnx"
OPSET, IR = 17, 8  # of 2022: runtimes on robots are seldom new
MOST = np.finfo(np.float32).max  # what is larger, or no number, is not finite


class _Graph:
    """Collects nodes and constants."""

    def __init__(self, onnx, weights):
        self.onnx, self.nodes, self.constants = onnx, [], dict(weights)

    def add(self, operator, *inputs, name=None, **attributes):
        """Adds a node and returns the name of what it gives."""
        name = name or f"{operator}_{len(self.nodes)}"
        make = self.onnx.helper.make_node
        self.nodes.append(make(operator, inputs, [name], **attributes))
        return name

    def initializers(self):
        """Returns the constants as the model holds them."""
        make = self.onnx.numpy_helper.from_array
        return [make(np.asarray(x), name) for name, x in self.constants.items()]


def model(weights: dict[str, np.ndarray]) -> bytes:
    """Returns `(observation [B, D], proposed [B, A]) -> filter.outcome` as a model.

    Args:
      weights: of one body (`dense.weights`), float32.

    Raises:
      MissingExtraError: if `onnx` is not installed.
    """
    onnx = needed("onnx", EXTRA)
    graph = _Graph(onnx, weights)
    _decision(graph)
    seen, both = weights["recovery_mean"].size, weights["critic_mean"].size
    number, truth = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL

    def values(kind, **sizes):
        make = onnx.helper.make_tensor_value_info
        return [make(name, kind, ["batch", *size]) for name, size in sizes.items()]

    made = onnx.helper.make_graph(
        graph.nodes,
        "safety_filter",
        values(number, observation=[seen], proposed=[both - seen]),
        values(number, action=[both - seen], risk=[])
        + values(truth, recovered=[], fell_back=[]),
        graph.initializers(),
    )
    found = onnx.helper.make_model(
        made,
        producer_name="mesa_jax",
        producer_version=mesa_jax.__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    onnx.checker.check_model(found, full_check=True)
    return found.SerializeToString()


def _outputs(graph, name, inputs):
    """Outputs [K, B, O] of a network at inputs [B, I]."""
    values = graph.add("Sub", inputs, f"{name}_mean")
    values = graph.add("Div", values, f"{name}_std")
    count = sum(key.startswith(f"{name}_kernel_") for key in graph.constants)
    for n in range(count):
        values = graph.add("Relu", values) if n else values
        values = graph.add("MatMul", values, f"{name}_kernel_{n}")
        values = graph.add("Add", values, f"{name}_bias_{n}")
    return values


def _decision(graph):
    """The rule of `filter.outcome`, node by node."""
    column = np.array([1])
    graph.constants |= {"column": column, "first": column - 1}
    numbers = {"most": MOST, "zero": 0.0, "nan": np.nan, "infinity": np.inf}
    graph.constants |= {name: np.float32(x) for name, x in numbers.items()}
    add = graph.add

    def whole(values):  # [B, N] -> [B]
        fine = add("LessOrEqual", add("Abs", values), "most")
        fine = add("Cast", fine, to=graph.onnx.TensorProto.FLOAT)
        fine = add("ReduceMin", fine, axes=[1], keepdims=0)
        return add("Cast", fine, to=graph.onnx.TensorProto.BOOL)

    def chosen(condition, one, other, name=None):  # [B], [B, N], [B, N] -> [B, N]
        return add(
            "Where", add("Unsqueeze", condition, "column"), one, other, name=name
        )

    both = add("Concat", "observation", "proposed", axis=1)
    logit = add("ReduceMax", _outputs(graph, "critic", both), axes=[0, 2], keepdims=0)
    risk = add("Sigmoid", logit)
    outputs = _outputs(graph, "recovery", "observation")
    rescue = add("Tanh", add("Squeeze", outputs, "first"))
    judged = add("And", whole(both), whole(add("Unsqueeze", risk, "column")))
    due = add("Greater", add("Where", judged, risk, "infinity"), "threshold")
    able = add("And", whole("observation"), whole(rescue))
    recovered = add("And", due, able, name="recovered")
    lost = add("And", due, add("Not", able))
    add("Or", add("Not", judged), lost, name="fell_back")
    calm = chosen(whole("proposed"), "proposed", "zero")
    chosen(recovered, rescue, calm, name="action")
    add("Where", judged, risk, "nan", name="risk")


def loaded(model: bytes) -> Callable:
    """Returns a model as `(observation [B, D], proposed [B, A]) -> filter.outcome`.

    Raises:
      MissingExtraError: if `onnxruntime` is not installed.
    """
    runtime = needed("onnxruntime", EXTRA)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]

    def decide(observation, proposed):
        given = {"observation": observation, "proposed": proposed}
        return dict(zip(names, session.run(None, given), strict=True))

    return decide
