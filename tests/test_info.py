import re
import subprocess
import sys

from skelkern import info
from skelkern.dispatch import OPS


def test_report_names_every_op_and_one_openmp_runtime():
    found = subprocess.run([sys.executable, "-m", "skelkern.info"], capture_output=True, text=True, check=True).stdout
    for op in OPS:
        on_gpu = r"(\n  not (triton|cuda): [^\n]+)*"
        left_to_torch = rf"{op}: reference{on_gpu}\n  not cpu: torch's \w+ (is|are) as fast on this processor"
        assert re.search(rf"{op}: cpu{on_gpu}\n  not reference: 'cpu' is preferred|{left_to_torch}", found), op
    assert "warning" not in found


def test_second_openmp_runtime_is_reported(monkeypatch):
    monkeypatch.setattr(info, "openmp_libraries", lambda: ["/a/libgomp.so.1", "/b/libiomp5.so"])
    assert "more than one OpenMP runtime" in info.report()
