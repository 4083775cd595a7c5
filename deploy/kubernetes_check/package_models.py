"""JSON schemas of custom resources, from the classes that packages generate from the resources' definitions.

The sources are parsed, never imported. A field that a class does not have is refused.
"""

import ast
import re

KUBERNETES = "io.k8s.api"
META = "io.k8s.apimachinery.pkg.apis.meta.v1"
OBJECT_META = {"$ref": f"#/$defs/{META}.ObjectMeta"}
# Schemas of the types that are not classes of a package.
KNOWN = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string"},
    "object": {},
    "Any": {},
    "ResourceQuantity": {"type": ["string", "number"]},
    "Base64Str": {"type": "string"},
    "StrictStr": {"type": "string"},
    "StrictInt": {"type": "integer"},
    "StrictBool": {"type": "boolean"},
    "apimachinery.ObjectMeta": OBJECT_META,
}
# Classes of Kubernetes, as OpenAPI Generator names them: IoK8sApiCoreV1EnvVar.
GENERATED = re.compile(r"IoK8s(Api|ApimachineryPkgApis)(Core|Batch|Meta)(V\d)(\w+)")


def pydantic_schemas(sources, prefix):
    """Schemas of the pydantic classes in Python files, named PREFIX.CLASS."""
    schemas = {}
    for source in sources:
        tree = ast.parse(source.read_text())
        # Modules with classes of Kubernetes: `from ...k8s.api.core import v1`.
        modules = {
            alias.asname or alias.name: f"io.{node.module}.{alias.name}"
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("k8s.")
            for alias in node.names
        }
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                schemas[f"{prefix}.{node.name}"] = pydantic_class(node, References(prefix, modules))
    return schemas


class References:
    """Finds the schemas of other classes by the names that they have in a file."""

    def __init__(self, prefix, modules):
        self.prefix = prefix
        self.modules = modules

    def __getitem__(self, name):
        if name in KNOWN:
            return KNOWN[name]
        module, _, kind = name.rpartition(".")
        if module in self.modules:
            definition = f"{self.modules[module]}.{kind}"
        elif generated := GENERATED.fullmatch(name):
            package = {"Api": KUBERNETES, "ApimachineryPkgApis": META.removesuffix(".meta.v1")}[generated[1]]
            definition = f"{package}.{generated[2].lower()}.{generated[3].lower()}.{generated[4]}"
        else:
            definition = f"{self.prefix}.{name}"
        return {"$ref": f"#/$defs/{definition}"}


def pydantic_class(node, references):
    root = node.bases[0]
    if isinstance(root, ast.Subscript):  # RootModel[str]
        return pydantic_type(root.slice, references)
    properties, required = {}, []
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or ast.unparse(field.annotation).startswith("ClassVar"):
            continue
        kind, options = unpack_annotated(field.annotation)
        is_required = field.value is None
        if isinstance(field.value, ast.Call):  # name: type = Field(default=None, alias=…)
            options = field_options(field.value)
            is_required = all(keyword.arg != "default" for keyword in field.value.keywords)
        name = options.pop("alias", field.target.id)
        properties[name] = {**pydantic_type(kind, references), **options}
        if is_required:
            required.append(name)
    return closed(properties, required)


def unpack_annotated(annotation):
    """The type in Annotated[type, Field(alias=…, pattern=…)], and what the field says beside it."""
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated"):
        return annotation, {}
    kind, field = annotation.slice.elts
    return kind, field_options(field)


def field_options(field):
    said = {keyword.arg: ast.literal_eval(keyword.value) for keyword in field.keywords}
    names = {"alias": "alias", "pattern": "pattern", "min_length": "minLength"}
    return {names[key]: value for key, value in said.items() if key in names}


def pydantic_type(node, references):
    if isinstance(node, ast.BinOp):  # int | None, str | int
        kinds = [kind for kind in (node.left, node.right) if ast.unparse(kind) != "None"]
        types = [pydantic_type(kind, references) for kind in kinds]
        return types[0] if len(types) == 1 else {"anyOf": types}
    if not isinstance(node, ast.Subscript):
        return references[ast.unparse(node).strip("'\"")]
    container = ast.unparse(node.value).lower()
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if container == "literal":
        return {"enum": [ast.literal_eval(value) for value in inner]}
    types = [pydantic_type(kind, references) for kind in inner]
    if container == "optional":
        return types[0]
    if container == "list":
        return {"type": "array", "items": types[0]}
    if container == "dict":
        return {"type": "object", "additionalProperties": types[1]}
    if container == "union":
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
    return KNOWN.get(kind, {})


def closed(properties, required):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
