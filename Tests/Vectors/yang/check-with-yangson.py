"""Holds data to the modules with yangson, which shares no code with libyang.

Usage: check-with-yangson.py MODULE-FOLDERS(colon between) config|state|notifications FILE
Prints "valid" or what is wrong.
"""
import json
import sys

import yangson
from yangson.enumerations import ContentType, ValidationScope
from yangson.instance import RootNode

LIBRARY = {
    "ietf-yang-library:modules-state": {
        "module-set-id": "1",
        "module": [
            {"name": "etsi-qkd-sdn-node", "revision": "2022-01-30", "namespace": "urn:etsi:qkd:yang:etsi-qkd-node",
             "conformance-type": "implement"},
            {"name": "etsi-qkd-node-types", "revision": "2022-01-30", "namespace": "urn:etsi:qkd:yang:etsi-qkd-node-types",
             "conformance-type": "implement"},
            {"name": "sdqkd-cv-qkd", "revision": "2026-11-23", "namespace": "urn:sdqkd:yang:sdqkd-cv-qkd",
             "conformance-type": "implement"},
            {"name": "ietf-yang-types", "revision": "2013-07-15", "namespace": "urn:ietf:params:xml:ns:yang:ietf-yang-types",
             "conformance-type": "import"},
            {"name": "ietf-inet-types", "revision": "2013-07-15", "namespace": "urn:ietf:params:xml:ns:yang:ietf-inet-types",
             "conformance-type": "import"},
        ],
    }
}


def check(model, kind, data):
    if kind == "notifications":
        for name, contents in data.items():
            node = model.get_schema_node("/" + name)
            value = node.from_raw(contents)
            RootNode(value, node, model, value.timestamp).validate(ValidationScope.syntax, ContentType.all)
    else:
        content = ContentType.config if kind == "config" else ContentType.all
        model.from_raw(data).validate(ValidationScope.all, content)


folders, kind, path = sys.argv[1:]
model = yangson.DataModel(json.dumps(LIBRARY), tuple(folders.split(":")))
try:
    check(model, kind, json.load(open(path)))
    print("valid")
except yangson.exceptions.YangsonException as error:
    print(type(error).__name__, error)
    sys.exit(1)
