//! docs/errors.md lists every reason of the run service and of teachers, with its code and explanations. A test of the
//! inference service does the same for its own.

use std::{collections::BTreeSet, fs, path::Path};

use syn::{Expr, ExprLit, ExprTuple, Lit, visit::Visit};

/// The sections of the page, and the files whose reasons they list.
const SECTIONS: [(&str, &str); 2] = [
    ("## Run service", "student-trainer/src/service/error.rs"),
    ("## Teachers", "teacher-service/src/error.rs"),
];

/// A reason with its gRPC code, in capital letters without underscores.
type Reason = (String, String);

#[test]
fn the_page_of_errors_lists_the_reasons_in_the_code() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(repository.join(path)).unwrap();
    let page = read("docs/errors.md");
    for (heading, source) in SECTIONS {
        let mut given = Given::default();
        given.visit_file(&syn::parse_file(&read(source)).unwrap());
        assert!(given.0.len() > 5, "{source}: {:?}", given.0);
        assert_eq!(listed(&page, heading), given.0, "{source}");
    }
}

/// The reasons in a section of the page.
fn listed(page: &str, heading: &str) -> BTreeSet<Reason> {
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    let section = lines.take_while(|line| !line.starts_with("## "));
    let rows = section.filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [reason, code, happened, remedy] = cells[..] else {
            panic!("{row}: four cells are expected");
        };
        assert!(happened.len() > 10 && remedy.len() > 10, "{row}");
        (reason.trim_matches('`').to_owned(), plain(code))
    });
    rows.collect()
}

/// Collects the reasons of a file: pairs such as `(Code::NotFound, "UNKNOWN_RUN")`.
#[derive(Default)]
struct Given(BTreeSet<Reason>);

impl<'ast> Visit<'ast> for Given {
    fn visit_expr_tuple(&mut self, tuple: &'ast ExprTuple) {
        let elements: Vec<&Expr> = tuple.elems.iter().collect();
        let [
            Expr::Path(code),
            Expr::Lit(ExprLit {
                lit: Lit::Str(reason),
                ..
            }),
        ] = elements[..]
        else {
            return syn::visit::visit_expr_tuple(self, tuple);
        };
        let code = code.path.segments.last().unwrap().ident.to_string();
        self.0.insert((reason.value(), plain(&code)));
    }
}

/// `INVALID_ARGUMENT` and `InvalidArgument` in one form.
fn plain(code: &str) -> String {
    code.replace('_', "").to_uppercase()
}
