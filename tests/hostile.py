# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Requests of a stranger who wants more than an answer: to run code, read or write files, or stop the server.

The values are JSON. ``SECRET`` stands for a folder with ``secret.json`` (which holds :data:`WORD`) and the module
``canary``, whose import, like every command here, would leave a file there.
"""

import json
from pathlib import Path

WORD = "hunter2"
"""Stands in files that no answer may quote."""
LEFT = "ran"
"""File that attacks leave in the folder."""
COMMAND = f"touch SECRET/{LEFT}"
CODE = {
    "an import": "$import canary",
    "an import from": "$from canary import x",
    "a call": f"$__import__('os').system('{COMMAND}')",
    "a call on a reference": f"$@bundle_root + __import__('os').popen('{COMMAND}').read()",
    "a component": {"_target_": "os.system", "command": COMMAND},
    "a component inside": [{"a": {"_target_": "os.system", "command": COMMAND}}],
    "an expression inside": {"te": f"$__import__('os').system('{COMMAND}')"},
    "a disabled component": {"_target_": "os.system", "_disabled_": f"$__import__('os').system('{COMMAND}')"},
    "a required import": {"_target_": "os.getcwd", "_requires_": "$import canary"},
}
NODES = {
    "a file": "%SECRET/secret.json::a",
    "an absent file": "%/absent.json::a",
    "a file, old separator": "%SECRET/secret.json#a",
    "a node": "@network_def",
    "a copy of a node": "%network_def",
    "a relative node": "@##preprocessing#transforms#0",
    "a node inside": ["@preprocessing::transforms::0::truth", {"te": "%configs/train_vae.json::network"}],
    "itself": "@displayable_configs::te",
}
PATHS = {
    "a JSON file": "SECRET/secret.json",
    "a text file": "SECRET/secret.txt",
    "one protocol of a file": "SECRET/secret.json:a",
    "no file type": "/etc/passwd",
    "a device file": "/dev/zero",
    "a relative path": "../../secret.json",
    "a path in a name": "../secret/scan.nii",
    "a Windows path": "..\\..\\secret.nii",
    "a link": "link.nii",
    "the folder": ".",
    "the folder above": "..",
    "a NUL": "scan.nii\0.json",
    "a line": "scan\n.nii",
    "a home": "~/scan.nii",
    "a URL": "http://127.0.0.1/scan.nii",
    "a long name": f"{'x' * 5000}.nii",
    "a format": "{0.__class__}%s%n.nii",
}
ODD = {
    "a long text": "x" * 300_000,
    "many values": [0] * 10_000,
    "many objects": [{"suffix": "T1w"}] * 10_000,
    "many keys": {f"key{number}": 1 for number in range(10_000)},
    "a deep list": json.loads("[" * 200 + "]" * 200),
    "a deep object": json.loads('{"te":' * 200 + "1" + "}" * 200),
    "an empty object": {},
    "a list of nothing": [None],
    "a truth": True,
    "no number": float("nan"),
    "too large a number": float("inf"),
    "a long number": 10**400,
    "a negative number": -(10**30),
    "many digits": "9" * 5000,
    "other digits": "٣",
    "raised digits": "²",
    "an underscore in digits": "1_0",
    "nothing and a number": "\u200b1",
    "half a letter": "\ud800",
    "letters that look alike": "ｔ１",
    "letters from the right": "\u202et1",
    "a tag": "<script>alert(1)</script>",
    "a line of a header": "t1\r\nSet-Cookie: a=b",
    "a terminal": "\x1b[2Jt1",
}
VALUES = CODE | NODES | PATHS | ODD
KEYS = (
    *("output", "sequence", "te", "tr", "ti", "flip_angle", "seed", "protocol", "acquisitions", "files"),
    *("device", "model_filename", "label_tag", "result_extension"),
)
"""Parameters of ours and of MONAI Label's that a value may be sent as."""
ADDRESSES = {
    "a node's name": {"network_def": {"_target_": "os.system", "command": COMMAND}},
    "a part of a node": {"preprocessing#transforms#0": f"$__import__('os').system('{COMMAND}')"},
    "another separator": {"preprocessing::transforms::0::truth": f"$__import__('os').system('{COMMAND}')"},
    "an import": {"imports": ["$import canary"]},
    "the parameters' own node": {"displayable_configs": {"te": "$import canary"}},
    "the folder of the bundle": {"bundle_root": "SECRET"},
    "an addition": {"+imports": ["$import canary"]},
    "no name": {"": "$import canary"},
    "the config": {"config": "$import canary", "_meta_": {"a": "$import canary"}, "imports::0": "$import canary"},
    "Python": {"__class__": "$import canary", "self": "$import canary"},
    "a long name": {"$import canary" * 1000: 1},
    "an odd name": {"\ud800utput": "t2", "ｏutput": "t2"},
    "too many": {f"name{number}": number for number in range(100_000)},
}
"""Parameters whose names are meant for something else."""


def placed(value: object, secret: Path) -> object:
    """A value with the folder in it, as it comes out of JSON."""
    return json.loads(json.dumps(value).replace("SECRET", str(secret)))
