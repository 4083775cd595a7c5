"""JSON schemas of custom resources, from the classes that packages generate from the resources' definitions.

The sources are parsed, never imported. A field that a class does not have is refused.
"""

import ast
import re

KUBERNETES = "io.k8s.api"
OBJECT_META = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
SCALARS = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string"},
    "object": {},
    "ResourceQuantity": {"type": ["string", "number"]},
}


def pydantic_schemas(source, prefix):
    """Schemas of the pydantic classes in a Python file, named PREFIX.CLASS."""
    classes = [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)]
    return {f"{prefix}.{node.name}": pydantic_class(node, prefix) for node in classes}


def pydantic_class(node, prefix):
    root = node.bases[0]
    if isinstance(root, ast.Subscript):  # RootModel[str]
        return pydantic_type(root.slice, prefix)
    properties, required = {}, []
    for field in node.body:
        if not isinstance(field, ast.AnnAssign):
            continue
        kind, options = unpack_annotated(field.annotation)
        name = options.pop("alias", field.target.id)
        properties[name] = {**pydantic_type(kind, prefix), **options}
        if field.value is None:
            required.append(name)
    return closed(properties, required)


def unpack_annotated(annotation):
    """The type in Annotated[type, Field(alias=…, pattern=…)], and what the field says beside it."""
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated"):
        return annotation, {}
    kind, field = annotation.slice.elts
    said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in field.keywords}
    names = {"alias": "alias", "pattern": "pattern", "min_length": "minLength"}
    return kind, {names[key]: value for key, value in said.items() if key in names}


def pydantic_type(node, prefix):
    if not isinstance(node, ast.Subscript):
        name = ast.unparse(node).strip("'\"")
        if name == "apimachinery.ObjectMeta":
            return OBJECT_META
        return SCALARS.get(name) or {"$ref": f"#/$defs/{prefix}.{name}"}
    container = ast.unparse(node.value)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if container == "Literal":
        return {"enum": [ast.literal_eval(value) for value in inner]}
    types = [pydantic_type(kind, prefix) for kind in inner]
    if container == "Optional":
        return types[0]
    if container == "List":
        return {"type": "array", "items": types[0]}
    if container == "Dict":
        return {"type": "object", "additionalProperties": types[1]}
    if container == "Union":
        return {"anyOf": types}
    raise ValueError(f"unknown type {container}")


def openapi_schemas(folder, prefix):
    """Schemas of the classes that OpenAPI Generator wrote into the Python files of a folder, named PREFIX.CLASS."""
    classes = {}
    for source in sorted(folder.glob("*.py")):
        for node in ast.parse(source.read_text()).body:
            tables = openapi_tables(node) if isinstance(node, ast.ClassDef) else {}
            if len(tables) == 2:
                classes[node.name] = tables
    return {
        f"{prefix}.{name}": closed(
            {
                tables["attribute_map"][field]: openapi_type(kind, classes, prefix)
                for field, kind in tables["openapi_types"].items()
            },
            [],
        )
        for name, tables in classes.items()
    }


def openapi_tables(node):
    """The dictionaries openapi_types (type of each attribute) and attribute_map (its name in JSON) of a class."""
    return {
        assignment.targets[0].id: ast.literal_eval(assignment.value)
        for assignment in node.body
        if isinstance(assignment, ast.Assign) and assignment.targets[0].id in ("openapi_types", "attribute_map")
    }


def openapi_type(kind, classes, prefix):
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": openapi_type(listed[1], classes, prefix)}
    if mapped := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": openapi_type(mapped[1], classes, prefix)}
    if kind in classes:
        return {"$ref": f"#/$defs/{prefix}.{kind}"}
    if kind == "V1ObjectMeta":
        return OBJECT_META
    if core := re.fullmatch(r"(V\d)([A-Z]\w+)", kind):
        return {"$ref": f"#/$defs/{KUBERNETES}.core.{core[1].lower()}.{core[2]}"}
    if group := re.fullmatch(r"K8sIoApi(Apps|Autoscaling)(V\d)(\w+)", kind):
        return {"$ref": f"#/$defs/{KUBERNETES}.{group[1].lower()}.{group[2].lower()}.{group[3]}"}
    # The classes of other projects are not in the package.
    return SCALARS.get(kind, {})


def closed(properties, required):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
