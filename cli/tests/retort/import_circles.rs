//! No circles of imports: files of one crate must not import each other in a circle.
//!
//! An edge leads from a file to the file that defines what it imports. Re-exports are resolved, so a module
//! that only re-exports the names of its submodules has no edge to them. A submodule is a part of its parent
//! and may use the parent's names, so its edges to the files above it do not count, and neither does code under
//! `#[cfg(test)]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use syn::{Attribute, Item, ItemUse, UseTree, Visibility, visit::Visit};

#[test]
fn no_files_import_each_other_in_a_circle() {
    let (root, targets) = workspace();
    let mut found = BTreeSet::new();
    for target in targets {
        for circle in Crate::read(&target).circles() {
            let relative = |file: &PathBuf| file.strip_prefix(&root).unwrap().display().to_string();
            found.insert(circle.iter().map(relative).collect::<Vec<_>>());
        }
    }
    assert_eq!(found, BTreeSet::new());
}

/// The root of the workspace, and the root files of its libraries and programs.
fn workspace() -> (PathBuf, Vec<PathBuf>) {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--locked"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let root = PathBuf::from(metadata["workspace_root"].as_str().unwrap());
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let shipped = targets.filter(|target| {
        let kind = target["kind"][0].as_str();
        matches!(kind, Some("lib" | "bin"))
    });
    let files = shipped.map(|target| PathBuf::from(target["src_path"].as_str().unwrap()));
    (root, files.collect())
}

/// The path of a module from the root of its crate.
type ModulePath = Vec<String>;

/// The modules of one crate.
#[derive(Default)]
struct Crate(BTreeMap<ModulePath, Module>);

#[derive(Default)]
struct Module {
    file: PathBuf,
    /// Names that the module defines, except modules.
    definitions: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths in the module's code, outside of `use`.
    paths: BTreeSet<Vec<String>>,
}

/// One leaf of a `use`.
struct Import {
    path: Vec<String>,
    /// The name that it binds; `None` for a glob.
    name: Option<String>,
    is_reexport: bool,
}

/// What a path names, by its file.
enum Target {
    Module(PathBuf),
    /// A name that the file defines.
    Name(PathBuf),
}

impl Crate {
    /// Reads the crate whose root file is `file`.
    fn read(file: &Path) -> Self {
        let mut modules = Self::default();
        let folder = file.parent().unwrap();
        let items = parse(file);
        modules.add(Vec::new(), file, folder, &items);
        modules
    }

    /// Adds the module `path`, which is in `file` and whose submodules are in `folder`.
    fn add(&mut self, path: ModulePath, file: &Path, folder: &Path, items: &[Item]) {
        let mut collector = Collector::default();
        for item in items {
            collector.visit_item(item);
        }
        let mut module = collector.0;
        module.file = file.to_owned();
        self.0.insert(path.clone(), module);
        for item in items {
            let Item::Mod(submodule) = item else { continue };
            if is_test(&submodule.attrs) {
                continue;
            }
            let name = submodule.ident.to_string();
            let path = [path.clone(), vec![name.clone()]].concat();
            let folder_of_submodule = folder.join(&name);
            if let Some((_, items)) = &submodule.content {
                self.add(path, file, &folder_of_submodule, items);
                continue;
            }
            let candidates = [
                folder.join(format!("{name}.rs")),
                folder.join(&name).join("mod.rs"),
            ];
            let file = candidates.iter().find(|file| file.exists());
            // A module with a `#[path]`, or one that a build script writes, is not read.
            if let Some(file) = file {
                self.add(path, file, &folder_of_submodule, &parse(file));
            }
        }
    }

    /// The sets of files that import each other.
    fn circles(&self) -> Vec<Vec<PathBuf>> {
        let edges = self.edges();
        let reachable: BTreeMap<_, _> = edges
            .keys()
            .map(|file| (file, reach(file, &edges)))
            .collect();
        let mut circles = BTreeSet::new();
        for (file, own) in &reachable {
            let together: Vec<PathBuf> = own
                .iter()
                .filter(|other| {
                    reachable
                        .get(*other)
                        .is_some_and(|back| back.contains(*file))
                })
                .cloned()
                .collect();
            // A file reaches itself only by a circle.
            if own.contains(*file) {
                circles.insert(together);
            }
        }
        circles.into_iter().collect()
    }

    fn edges(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut edges: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, module) in &self.0 {
            let used: BTreeSet<_> = module.paths.iter().map(|path| &path[0]).collect();
            let above: BTreeSet<_> = (0..=path.len())
                .filter_map(|length| Some(self.0.get(&path[..length])?.file.clone()))
                .collect();
            let imports = module.imports.iter().filter(|import| {
                let is_used = import.name.as_ref().is_some_and(|name| used.contains(name));
                !import.is_reexport || is_used
            });
            let imports = imports.map(|import| (&import.path, import.name.is_none()));
            let paths = module.paths.iter().filter(|path| path.len() > 1);
            for (target, is_glob) in imports.chain(paths.map(|path| (path, false))) {
                let file = match self.definition(path, target, 0, false) {
                    Some(Target::Name(file)) => file,
                    Some(Target::Module(file)) if is_glob => file,
                    // The paths that begin with an imported module have edges of their own.
                    Some(Target::Module(_)) | None => continue,
                };
                if !above.contains(&file) {
                    edges.entry(module.file.clone()).or_default().insert(file);
                }
            }
        }
        edges
    }

    /// Finds what `target` names within the module `from`; `None` if it belongs to another crate.
    /// With `known_only`, returns `None` too if the name is not found.
    fn definition(
        &self,
        from: &[String],
        target: &[String],
        depth: usize,
        known_only: bool,
    ) -> Option<Target> {
        // Globs of modules that re-export each other would never end.
        if depth > 16 {
            return None;
        }
        let (mut module, mut rest) = (from.to_vec(), target);
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = others;
        }
        let is_relative = rest.len() == target.len();
        while let [first, others @ ..] = rest {
            let submodule = [module.clone(), vec![first.clone()]].concat();
            if self.0.contains_key(&submodule) {
                (module, rest) = (submodule, others);
                continue;
            }
            let own = &self.0.get(&module)?;
            if own.definitions.contains(first) {
                return Some(Target::Name(own.file.clone()));
            }
            let bound = own
                .imports
                .iter()
                .filter(|import| import.name.as_ref() == Some(first));
            for import in bound {
                // `use a::b as a` must not resolve to itself.
                if import.path == *target {
                    continue;
                }
                let path = [&import.path[..], others].concat();
                return self.definition(&module, &path, depth + 1, known_only);
            }
            let globs = own.imports.iter().filter(|import| import.name.is_none());
            for import in globs {
                let path = [&import.path[..], rest].concat();
                if let Some(target) = self.definition(&module, &path, depth + 1, true) {
                    return Some(target);
                }
            }
            // The first name of a path that this crate does not define belongs to another crate.
            let is_external = is_relative && rest.len() == target.len();
            return (!is_external && !known_only).then(|| Target::Name(own.file.clone()));
        }
        Some(Target::Module(self.0.get(&module)?.file.clone()))
    }
}

fn parse(file: &Path) -> Vec<Item> {
    let text = fs::read_to_string(file).unwrap();
    let parsed = syn::parse_file(&text);
    parsed
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        .items
}

fn reach(file: &PathBuf, edges: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        for target in edges.get(file).into_iter().flatten() {
            if reached.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    reached
}

/// Whether `attributes` compile an item for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        let mut words = list.tokens.clone().into_iter();
        list.path.is_ident("cfg") && words.any(|word| word.to_string() == "test")
    })
}

/// Collects one module's definitions, imports and paths, without those of its submodules.
#[derive(Default)]
struct Collector(Module);

impl Collector {
    fn add_tree(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let with = |name: String| [before, &[name]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => {
                let before = with(path.ident.to_string());
                return self.add_tree(&path.tree, &before, is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before, is_reexport);
                }
                return;
            }
            // `use a::{self}` binds `a`.
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned())
            }
            UseTree::Name(name) => (with(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (
                with(rename.ident.to_string()),
                Some(rename.rename.to_string()),
            ),
            UseTree::Glob(_) => (before.to_vec(), None),
        };
        self.0.imports.push(Import {
            path,
            name,
            is_reexport,
        });
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Mod(_) => return,
            _ => return syn::visit::visit_item(self, item),
        };
        if is_test(attributes) {
            return;
        }
        if let Some(name) = name {
            self.0.definitions.insert(name.to_string());
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            let is_reexport = !matches!(item.vis, Visibility::Inherited);
            self.add_tree(&item.tree, &[], is_reexport);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.0.paths.insert(names.collect());
        }
        syn::visit::visit_path(self, path);
    }
}

/// The circles of a crate with these files, by file name.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let circles = Crate::read(&folder.path().join("lib.rs")).circles();
    let name = |file: &PathBuf| {
        file.strip_prefix(folder.path())
            .unwrap()
            .display()
            .to_string()
    };
    circles
        .iter()
        .map(|circle| circle.iter().map(name).collect())
        .collect()
}

#[test]
fn a_circle_is_found() {
    let root = ("lib.rs", "mod a; mod b;");
    let b = ("b.rs", "pub struct B; pub fn b() { crate::a::a(); }");
    for a in [
        "use crate::b::B; pub fn a() {}",
        "use super::b; pub fn a() { b::b() }",
        "pub fn a() { let _ = super::b::B; }",
    ] {
        assert_eq!(
            circles_of(&[root, ("a.rs", a), b]),
            [["a.rs", "b.rs"]],
            "{a}"
        );
    }
    let through_a_reexport = [
        ("lib.rs", "mod group; mod user;"),
        ("group/mod.rs", "mod part; pub use part::Part;"),
        ("group/part.rs", "use crate::user::User; pub struct Part;"),
        ("user.rs", "use crate::group::Part; pub struct User;"),
    ];
    assert_eq!(
        circles_of(&through_a_reexport),
        [["group/part.rs", "user.rs"]]
    );
}

#[test]
fn reexports_and_imports_of_tests_are_no_circle() {
    let trees: [&[(&str, &str)]; 4] = [
        // The parent only re-exports the names of its children, which use a name of their parent.
        &[
            (
                "lib.rs",
                "mod a; mod b; pub use a::A; pub use b::B; pub struct Parent;",
            ),
            ("a.rs", "use super::{B, Parent}; pub struct A;"),
            ("b.rs", "use super::Parent; pub struct B;"),
        ],
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            (
                "b.rs",
                "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
            ),
        ],
        // A parent uses its child, which uses its parent.
        &[
            (
                "lib.rs",
                "mod child; use child::Child; pub struct Parent(Child);",
            ),
            ("child.rs", "use super::Parent; pub struct Child;"),
        ],
        // Another crate's name.
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use a_crate::a::A; pub struct B;"),
        ],
    ];
    for files in trees {
        assert_eq!(circles_of(files), Vec::<Vec<String>>::new(), "{files:?}");
    }
}
