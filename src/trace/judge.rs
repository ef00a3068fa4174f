//! A judge of JSON for tests: Python's jsonschema, one process for as many values as a test has.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Answers each line with an empty one, or with what is wrong.
const PROGRAM: &str = r#"
import json, re, sys
try:
    import jsonschema
except ImportError:
    sys.exit("python3-jsonschema is not installed: run scripts/setup")
formats = jsonschema.FormatChecker()
formats.checks("date-time")(
    lambda value: not isinstance(value, str)
    or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) is not None
)
schema = json.loads(sys.stdin.readline())
jsonschema.Draft202012Validator.check_schema(schema)
judge = jsonschema.Draft202012Validator(schema, format_checker=formats)
for line in sys.stdin:
    errors = [error.message.replace("\n", " ") for error in judge.iter_errors(json.loads(line))]
    print("; ".join(errors), flush=True)
"#;

/// A schema, and who judges by it.
pub(crate) struct Judge {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

/// Makes the schema refuse what it does not list.
fn close(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(fields) => {
            if fields.contains_key("properties") && fields.get("type").is_some_and(|kind| kind == "object") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

impl Judge {
    /// Besides, every field must be one that the schema lists.
    pub(crate) fn closed(schema: &str) -> Self {
        let mut schema = serde_json::from_str(schema).unwrap();
        close(&mut schema);
        Self::new(&schema.to_string())
    }

    pub(crate) fn new(schema: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, which scripts/setup installs");
        let asks = child.stdin.take().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        let mut judge = Self { child, asks, says };
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        writeln!(judge.asks, "{schema}").unwrap();
        judge
    }

    /// What is wrong with a value; none if it is as the schema says.
    pub(crate) fn fault(&mut self, value: &serde_json::Value) -> Option<String> {
        writeln!(self.asks, "{value}").expect("the judge has ended: see above");
        let mut said = String::new();
        let len = self.says.read_line(&mut said).unwrap();
        assert!(len > 0, "the judge has ended: see above");
        Some(said.trim_end().to_owned()).filter(|said| !said.is_empty())
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
