"""Tables of PS3.3 for dicom-validator, made of those that highdicom carries.

dicom-validator downloads the standard (dicom.nema.org) at its first use; these tables need no
network. They hold which attributes a module has and of which type, but neither conditions nor the
content tree's rules by value type, so that "SR Document Content" is not judged by them.
"""

import json
from importlib.resources import files
from typing import Any

from pydicom.datadict import DicomDictionary, tag_for_keyword

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
WITHOUT_RULES = "sr-document-content"


def tables() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Dictionary, IODs and modules as `dicom_validator.validator.dicom_info.DicomInfo` has them."""
    modules_of, attributes_of = _read("iod_module_map"), _read("module_attribute_map")
    used = modules_of["comprehensive-sr"]
    modules = {one["key"]: _module(attributes_of[one["key"]]) for one in used}
    uses = {
        one["key"]: {"ref": one["key"], "use": one["usage"], **_condition(one["usage"])}
        for one in used
        if one["key"] != WITHOUT_RULES
    }
    iod = {"title": "Comprehensive SR", "group_macros": {}, "modules": uses}
    # not judged, but known: without a condition it would be asked for all that any item may have
    uses[WITHOUT_RULES] = {"ref": WITHOUT_RULES, "use": "M"}
    modules[WITHOUT_RULES] = _all_optional(modules[WITHOUT_RULES])
    dictionary = {
        _tag(number): {"name": name, "vr": vr, "vm": vm, "prop": ""}
        for number, (vr, vm, name, *_) in DicomDictionary.items()
    }
    return dictionary, {COMPREHENSIVE_SR: iod}, modules


def _read(name: str) -> dict[str, Any]:
    path = files("highdicom") / "_standard" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _tag(number: int) -> str:
    return f"({number >> 16:04X},{number & 0xFFFF:04X})"


def _condition(use: str) -> dict[str, Any]:
    return {"cond": {"type": "U"}} if use.endswith("C") else {}


def _module(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    module: dict[str, Any] = {}
    for one in attributes:
        level = module
        for keyword in one["path"]:
            level = level[_tag(tag_for_keyword(keyword) or 0)].setdefault("items", {})
        entry = {"name": one["keyword"], "type": one["type"], **_condition(one["type"])}
        level[_tag(tag_for_keyword(one["keyword"]) or 0)] = entry
    return module


def _all_optional(module: dict[str, Any]) -> dict[str, Any]:
    return {tag: {"name": entry["name"], "type": "3"} for tag, entry in module.items()}
