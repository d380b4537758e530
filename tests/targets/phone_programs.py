"""Stand-ins for the benchmark programs of runtimes, as somebody would build them for a phone. **They are Python here**:
what they print and write is what the real programs' sources say (named in `targets.adb`), and what they time is the
real runtime of this machine. Written to one file each, which is pushed and run like any program.
"""

import sys
from pathlib import Path

PERF_TEST = r"""
import glob, os, sys, time
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnx, onnxruntime
from onnx import numpy_helper

words, options = sys.argv[1:], {}
while words and words[0].startswith("-"):
    options[words[0][1]] = words[1]
    words = words[2:]
model, results = words
assert set(options) <= set("emxyorpu"), options
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = int(options["x"])
settings.inter_op_num_threads = int(options["y"])
settings.log_severity_level = 3
if "p" in options:
    settings.enable_profiling = True
    settings.profile_file_prefix = options["p"]
if "u" in options:
    settings.optimized_model_filepath = options["u"]
try:
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    feeds = {}
    for path in sorted(glob.glob(os.path.dirname(model) + "/test_data_set_0/input_*.pb")):
        tensor = onnx.TensorProto.FromString(open(path, "rb").read())
        feeds[tensor.name] = numpy_helper.to_array(tensor)
    session.run(None, feeds)
except Exception as failure:
    sys.exit("onnxruntime_perf_test: " + str(failure))
costs = []
for _ in range(int(options["r"])):
    begun = time.perf_counter()
    session.run(None, feeds)
    costs.append(time.perf_counter() - begun)
with open(results, "a") as file:
    for number, cost in enumerate(costs):
        file.write("model,%.6g,%d,%d,%d\n" % (cost, 12345678, 99, number))
print("Total time cost:%g\nTotal iterations:%d" % (sum(costs), len(costs)))
if "p" in options:
    session.end_profiling()
"""

MODULE_BASIC = r"""
import json, sys, time
import MNN, numpy as np

if len(sys.argv) < 3:
    print("Usage: ./ModuleBasic.out ${test.mnn} ${Dir} [runMask] [forwardType] [runLoops] [numberThread] [precision]")
    sys.exit(0)
model, folder, mask, forward, loops, threads, precision = sys.argv[1:8]
print("Test %s from input info: %s" % (model, folder))
assert (mask, forward, precision) == ("0", "0", "1")
asked = json.load(open(folder + "/input.json"))
interpreter = MNN.Interpreter(model)
session = interpreter.createSession({"backend": "CPU", "numThread": int(threads), "precision": "high"})
inputs = interpreter.getSessionInputAll(session)
if not inputs or [each["name"] for each in asked["inputs"]] != list(inputs):
    print("Error: can't load module")
    sys.exit(0)
for each in asked["inputs"]:
    tensor = inputs[each["name"]]
    text = open(folder + "/" + each["name"] + ".txt").read().split()
    kind = np.float32 if tensor.getDataType() == MNN.Halide_Type_Float else np.int32
    values = np.array([float(value) for value in text], kind).reshape(each["shape"])
    tensor.copyFrom(MNN.Tensor(tuple(each["shape"]), tensor.getDataType(), values, MNN.Tensor_DimensionType_Caffe))
interpreter.runSession(session)
outputs = interpreter.getSessionOutputAll(session)
for number, name in enumerate(asked["outputs"]):
    shape = outputs[name].getShape()
    host = MNN.Tensor(shape, outputs[name].getDataType(), np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
    outputs[name].copyToHostTensor(host)
    path = "output/0_%d.txt" % number
    print("Write %s output to %s" % (name, path))
    open(path, "w").write("".join("%.6g\n" % value for value in np.array(host.getNumpyData()).ravel()))
times = []
for _ in range(int(loops)):
    begun = time.perf_counter()
    interpreter.runSession(session)
    times.append(1e3 * (time.perf_counter() - begun))
if times:
    print("Avg= %f ms, min= %f ms, max= %f ms" % (sum(times) / len(times), min(times), max(times)))
"""

MNNV2_BASIC = r"""
import sys, time
import MNN

if len(sys.argv) < 2:
    print("=" * 72)
    print("Arguments: model.MNN runLoops runMask forwardType numberThread precision inputSize ")
    print("=" * 72)
    sys.exit(0)
model, loops, mask, forward, threads, precision = sys.argv[1:7]
assert (mask, forward, precision) == ("0", "0", "1")
interpreter = MNN.Interpreter(model)
session = interpreter.createSession({"backend": "CPU", "numThread": int(threads), "precision": "high"})
spent, kinds, begun = {}, {}, [0.0]

def before(tensors, info):
    begun[0] = time.perf_counter()
    return True

def after(tensors, info):
    taken = time.perf_counter() - begun[0]
    kinds[info.getName()] = info.getType()
    spent[info.getName()] = spent.get(info.getName(), 0.0) + 1e3 * taken
    return True

for _ in range(int(loops)):
    interpreter.runSessionWithCallBackInfo(session, before, after)
total = sum(spent.values())
for name in sorted(spent, key=spent.get):
    print("%50s \t[%s] run %d average cost %f ms, %.3f %%, FlopsRate: %.3f %%" % (
        name, kinds[name], int(loops), spent[name] / int(loops), 100 * spent[name] / total, 0.0))
print("Avg= %f ms, OpSum = %f ms min= %f ms, max= %f ms" % ((total / int(loops),) * 4))
"""


def write_perf_test(folder: Path) -> Path:
    return written(folder / "onnxruntime_perf_test", PERF_TEST)


def write_module_basic(folder: Path, by_kernel: bool = True) -> Path:
    """With the one for kernel times beside it, where that is asked for."""
    if by_kernel:
        written(folder / "MNNV2Basic.out", MNNV2_BASIC)
    return written(folder / "ModuleBasic.out", MODULE_BASIC)


def written(path: Path, program: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{program.lstrip()}", encoding="utf-8")
    path.chmod(0o755)
    return path
