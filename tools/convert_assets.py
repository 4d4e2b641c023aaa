"""Make the weights that ship in src/pa_lib/assets from their origins, and the manifest beside them.

    python tools/convert_assets.py SOURCES [--check]

SOURCES is a folder with the origin files (`SOURCES` below has names and sha256; ASSETS.md says where they come from).
The results are the same byte for byte on every run; `--check` writes nothing and fails where a result would differ.
Needs the `dev` extra (onnx).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import save

ASSETS = Path(__file__).parents[1] / "src" / "pa_lib" / "assets"
SOURCES = {
    "centerface.onnx": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    "nanodet_g_416.onnx": "6ddcd438ee100650a49f5e3230d77b65af60a99ed49b28c5c2d4a61ad8e8a882",
    "selfie_segmentation_256.onnx": "dfdb92bc1077b4f0aee54a36dd0770fbd0254656597743f136356fbf7e59169c",
    "face_recognition_model.bin": "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
    "face_recognition_model-weights_manifest.json": "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
}


def source(folder: Path, name: str) -> Path:
    """The origin file `name` anywhere below `folder`, with its sha256 checked."""
    found = [path for path in sorted(folder.rglob(name)) if path.is_file()]
    if not found:
        raise SystemExit(f"{name} is not below {folder}")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != SOURCES[name]:
        raise SystemExit(f"{found[0]}: sha256 is {digest}, expected {SOURCES[name]}")
    return found[0]


def constants(model: onnx.ModelProto) -> dict[str, NDArray]:
    """The initializers that some node reads."""
    used = {name for node in model.graph.node for name in node.input}
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.name in used}


def set_dims(value: onnx.ValueInfoProto, dims: tuple[int | str, ...]) -> None:
    """Replace the shape in a graph's signature; a name makes the dimension free."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for dim in dims:
        entry = shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        else:
            entry.dim_param = dim


def to_half_storage(model: onnx.ModelProto, values: dict[str, NDArray]) -> None:
    """Store float32 constants as float16 followed by a cast, which the runtime folds away while loading.

    Half the file, and the arithmetic stays float32: an fp16 graph would cast around every node on a CPU.
    """
    casts = []
    del model.graph.initializer[:]
    for name, value in values.items():
        # Scalars and shapes stay as they are; -inf (the padding of a max pool) survives float16.
        if value.dtype == np.float32 and value.size > 1:
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float16), name + ":half"))
            casts.append(helper.make_node("Cast", [name + ":half"], [name], to=onnx.TensorProto.FLOAT))
        else:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def finish(model: onnx.ModelProto) -> bytes:
    """Check the graph and serialize it."""
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give the graph's inputs and outputs names that say what they are."""
    for node in model.graph.node:
        for field in (node.input, node.output):
            for at, name in enumerate(field):
                field[at] = names.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


def centerface(path: Path) -> bytes:
    """Free batch, height and width; constants no longer inputs (so the runtime may fold them); norms folded; fp16."""
    model = onnx.load(path)
    graph = model.graph
    values = constants(model)
    image = next(item for item in graph.input if item.name == "input.1")
    del graph.input[:]
    graph.input.append(image)

    # A batch norm after a transposed convolution is a scale of its filters and a bias; the runtime does not fold it.
    made_by = {node.output[0]: node for node in graph.node}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    for norm in norms:
        up = made_by[norm.input[0]]
        gain, bias, mean, variance = (values.pop(name).astype(np.float64) for name in norm.input[1:])
        epsilon = next(item.f for item in norm.attribute if item.name == "epsilon")
        factor = gain / np.sqrt(variance + epsilon)
        weight = up.input[1]
        values[weight] = (values[weight] * factor[None, :, None, None]).astype(np.float32)
        values[weight + ".bias"] = (bias - mean * factor).astype(np.float32)
        up.input.append(weight + ".bias")
        up.output[0] = norm.output[0]
        graph.node.remove(norm)

    rename(model, {"input.1": "image", "537": "heatmap", "538": "scale", "539": "offset", "540": "landmarks"})
    set_dims(graph.input[0], ("batch", 3, "height", "width"))
    for output, channels in zip(graph.output, (1, 2, 2, 10), strict=True):
        set_dims(output, ("batch", channels, "rows", "columns"))
    to_half_storage(model, values)
    return finish(model)


def nanodet(path: Path) -> bytes:
    """Free batch, height and width; only the class `person` of the 80 scores; fp16."""
    model = onnx.load(path)
    graph = model.graph
    values = constants(model)
    made_by = {name: node for node in graph.node for name in node.output}
    outputs = {value.name: value for value in graph.output}
    names = {"input_1:0": "image"}
    ordered = []
    for stride, score, distance in (
        (8, "Identity:0", "Identity_3:0"),
        (16, "Identity_1:0", "Identity_4:0"),
        (32, "Identity_2:0", "Identity_5:0"),
    ):
        names |= {score: f"scores_{stride}", distance: f"distances_{stride}"}
        set_dims(outputs[score], ("batch", f"cells_{stride}", 1))
        set_dims(outputs[distance], ("batch", f"cells_{stride}", 44))
        ordered += [outputs[score], outputs[distance]]
        # scores <- transpose <- reshape <- sigmoid <- split(80, 44) <- 1x1 convolution: keep its rows 0 and 80..123.
        sigmoid = made_by[made_by[made_by[score].input[0]].input[0]]
        split = made_by[sigmoid.input[0]]
        head = made_by[split.input[0]]
        rows = np.r_[0, 80:124]
        for name in head.input[1:]:
            values[name] = np.ascontiguousarray(values[name][rows])
        values[split.input[1]] = np.array([1, 44], np.int64)
        for reshape, channels in ((made_by[made_by[score].input[0]], 1), (made_by[made_by[distance].input[0]], 44)):
            shape = f"shape_{channels}"
            values[shape] = np.array([0, channels, -1], np.int64)  # 0: the batch, as it is
            reshape.input[1] = shape
    del graph.output[:]
    graph.output.extend(ordered)
    rename(model, names)
    set_dims(graph.input[0], ("batch", 3, "height", "width"))
    used = {name for node in graph.node for name in node.input}
    to_half_storage(model, {name: value for name, value in values.items() if name in used})
    return finish(model)


def selfie_segmentation(path: Path) -> bytes:
    """fp16 storage; the graph as it is."""
    model = onnx.load(path)
    values = constants(model)
    rename(model, {"input_1:0": "image", "activation_10:0": "silhouette"})
    to_half_storage(model, values)
    return finish(model)


def face_identity(binary: Path, manifest: Path) -> bytes:
    """The quantised bytes as they are, in PyTorch's axis order, each with its own scale and minimum; others float16.

    Keys: `<block>.<layer>.{weight,bias,gain,shift}`, and `<key>.range` = (scale, minimum) where the tensor is uint8.
    Biases of the convolutions are below 1e-4 of what the gain and shift behind them add, but cost nothing to keep.
    """
    raw = binary.read_bytes()
    roles = {"conv/filters": "weight", "conv/bias": "bias", "scale/weights": "gain", "scale/biases": "shift"}
    tensors: dict[str, NDArray] = {}
    at = 0
    for entry in json.loads(manifest.read_text())[0]["weights"]:
        name, shape = entry["name"], entry["shape"]
        count = int(np.prod(shape))
        quantised = entry.get("quantization")
        kind = np.uint8 if quantised else np.float32
        value = np.frombuffer(raw, kind, count, at).reshape(shape)
        at += value.nbytes
        if name == "fc":
            key, value = "embed.weight", value.T
        else:
            role = next(role for role in roles if name.endswith(role))
            block = name.removesuffix(role).strip("/").split("/")
            key = ".".join("stem" if block == ["conv32_down"] else part for part in block) + "." + roles[role]
            if roles[role] == "weight":
                value = value.transpose(3, 2, 0, 1)
        if quantised:
            tensors[key + ".range"] = np.array([quantised["scale"], quantised["min"]], np.float32)
        tensors[key] = np.ascontiguousarray(value if quantised else value.astype(np.float16))
    if at != len(raw):
        raise SystemExit(f"{binary} has {len(raw)} bytes, its manifest describes {at}")
    return save(tensors, {"format": "pt"})


def main() -> None:
    """Convert, then write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.sources
    made = {
        "centerface.onnx": centerface(source(folder, "centerface.onnx")),
        "nanodet_g.onnx": nanodet(source(folder, "nanodet_g_416.onnx")),
        "selfie_segmentation.onnx": selfie_segmentation(source(folder, "selfie_segmentation_256.onnx")),
        "face_identity.safetensors": face_identity(
            source(folder, "face_recognition_model.bin"),
            source(folder, "face_recognition_model-weights_manifest.json"),
        ),
    }
    manifest = json.loads((ASSETS / "manifest.json").read_text())
    for name, content in made.items():
        digest = hashlib.sha256(content).hexdigest()
        is_same = manifest[name]["sha256"] == digest
        print(f"{digest}  {name}  {len(content):,} bytes  {'as in the manifest' if is_same else 'CHANGED'}")
        if arguments.check and not is_same:
            sys.exit(1)
        if not arguments.check:
            (ASSETS / name).write_bytes(content)
            manifest[name] |= {"sha256": digest, "n_bytes": len(content)}
    if not arguments.check:
        (ASSETS / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
