//! The exports of a CommonJS module: assignments to `module.exports` and `exports` at its top level.
//! Also reads what TypeScript and bundlers leave for such readers; a wrapper function it does not look into.

use oxc_ast::ast::{
    ArrowFunctionExpression, AssignmentExpression, AssignmentTarget, CallExpression, Class,
    Expression, Function, ObjectPropertyKind, Program, TSExportAssignment,
};
use oxc_ast_visit::{Visit, walk};
use oxc_syntax::scope::ScopeFlags;

use super::{
    Exports, Format, Link, Value,
    locals::{DEPTH_MAX, Local, Locals, value_of},
};

/// What a module exports if it is CommonJS; nothing, and [`Format::Neither`], if it is not.
pub(super) fn of_program<'p, 'a>(
    program: &'p Program<'a>,
    locals: &'p Locals<'p, 'a>,
) -> (Exports, Vec<Link>) {
    let mut reader = Reader {
        locals,
        exports: Exports::default(),
        links: Vec::new(),
        unknown: false,
    };
    reader.visit_program(program);
    let Reader {
        mut exports,
        links,
        unknown,
        ..
    } = reader;
    // Bundlers assign the result of a call and list the names beside it; then the names are known.
    exports.open |= unknown && exports.names.is_empty() && exports.default.is_none();
    (exports, links)
}

struct Reader<'p, 'a> {
    locals: &'p Locals<'p, 'a>,
    exports: Exports,
    links: Vec<Link>,
    /// Whether `module.exports` became something that cannot be read.
    unknown: bool,
}

/// What an assignment assigns to.
enum Target {
    Whole,
    Name(String),
}

impl<'a> Visit<'a> for Reader<'_, 'a> {
    fn visit_function(&mut self, _: &Function<'a>, _: ScopeFlags) {}
    fn visit_arrow_function_expression(&mut self, _: &ArrowFunctionExpression<'a>) {}
    fn visit_class(&mut self, _: &Class<'a>) {}

    fn visit_assignment_expression(&mut self, it: &AssignmentExpression<'a>) {
        match target_of(&it.left) {
            Some(Target::Whole) => self.whole(&it.right, 0),
            Some(Target::Name(name)) => {
                self.exports.format = Format::CommonJs;
                let value = value_of(last_of(&it.right), self.locals, 0);
                self.exports.export(&name, value);
            }
            None => {}
        }
        self.visit_expression(&it.right);
    }

    fn visit_ts_export_assignment(&mut self, it: &TSExportAssignment<'a>) {
        self.whole(&it.expression, 0);
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        let mut arguments = it.arguments.iter().map(|argument| argument.as_expression());
        let (first, second) = (arguments.next().flatten(), arguments.next().flatten());
        if let Some(Expression::StringLiteral(name)) = second
            && first.is_some_and(is_exports)
        {
            // Object.defineProperty(exports, "name", …)
            self.exports.format = Format::CommonJs;
            self.exports.export(&name.value, Value::Unknown);
        } else if let Some(from) = first.and_then(required)
            && second.is_some_and(is_exports)
        {
            // __exportStar(require("…"), exports)
            self.exports.format = Format::CommonJs;
            self.links.push(Link::Star(from));
        } else if first.is_some_and(is_exports) || second.is_some_and(is_exports) {
            self.exports.format = Format::CommonJs;
            self.exports.open = true;
        }
        walk::walk_call_expression(self, it);
    }
}

impl<'a> Reader<'_, 'a> {
    /// `module.exports = value`.
    fn whole(&mut self, value: &Expression<'a>, depth: usize) {
        self.exports.format = Format::CommonJs;
        let value = last_of(value);
        match value {
            Expression::ObjectExpression(object) => {
                for property in &object.properties {
                    match property {
                        ObjectPropertyKind::ObjectProperty(it) => match it.key.static_name() {
                            Some(name) if name == "fetch" => {
                                self.exports.export("default", Value::Handler)
                            }
                            Some(name) => {
                                let value = value_of(&it.value, self.locals, 0);
                                self.exports.export(&name, value);
                            }
                            None => self.exports.open = true,
                        },
                        ObjectPropertyKind::SpreadProperty(_) => self.exports.open = true,
                    }
                }
            }
            Expression::Identifier(name) if depth < DEPTH_MAX => {
                match self.locals.get(name.name.as_str()) {
                    Some(Local::Value(value)) => self.whole(value, depth + 1),
                    Some(Local::Function | Local::Class) => {
                        self.exports
                            .export("default", value_of(value, self.locals, 0));
                    }
                    Some(Local::Other) | None => self.unknown = true,
                }
            }
            _ => match (required(value), value_of(value, self.locals, 0)) {
                (Some(from), _) => self.links.push(Link::Whole(from)),
                (None, Value::Unknown) => self.unknown = true,
                (None, known) => self.exports.export("default", known),
            },
        }
    }
}

/// The value that a chain of assignments ends with.
fn last_of<'p, 'a>(value: &'p Expression<'a>) -> &'p Expression<'a> {
    let mut value = value.get_inner_expression();
    while let Expression::AssignmentExpression(it) = value {
        value = it.right.get_inner_expression();
    }
    value
}

/// The specifier of a `require("…")`.
fn required(value: &Expression<'_>) -> Option<String> {
    match value.get_inner_expression() {
        Expression::CallExpression(call) => Some(call.common_js_require()?.value.to_string()),
        _ => None,
    }
}

/// Whether this is `exports` or `module.exports`.
fn is_exports(value: &Expression<'_>) -> bool {
    let value = value.get_inner_expression();
    value.is_specific_id("exports") || value.is_specific_member_access("module", "exports")
}

fn target_of(target: &AssignmentTarget<'_>) -> Option<Target> {
    match target {
        AssignmentTarget::StaticMemberExpression(it) => {
            if it.object.is_specific_id("module") && it.property.name == "exports" {
                return Some(Target::Whole);
            }
            is_exports(&it.object).then(|| Target::Name(it.property.name.to_string()))
        }
        AssignmentTarget::ComputedMemberExpression(it) => match &it.expression {
            Expression::StringLiteral(name) if is_exports(&it.object) => {
                Some(Target::Name(name.value.to_string()))
            }
            _ => None,
        },
        _ => None,
    }
}
