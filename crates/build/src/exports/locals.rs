//! The names of a module's top level, and what is known of their values without running anything.

use std::collections::HashMap;

use oxc_ast::ast::{
    BindingPattern, Declaration, Expression, ObjectPropertyKind, Program, Statement,
};

use super::Value;

/// Longest chain of names that is followed inside a module.
pub(super) const DEPTH_MAX: usize = 32;

/// What a name of the module stands for.
#[derive(Clone, Copy)]
pub(super) enum Local<'p, 'a> {
    Function,
    Class,
    Value(&'p Expression<'a>),
    Other,
}

/// The names of a module's top level.
pub(super) type Locals<'p, 'a> = HashMap<&'p str, Local<'p, 'a>>;

/// Calls `each` with every name that a declaration makes at run time.
pub(super) fn for_each_name<'p, 'a>(
    declaration: &'p Declaration<'a>,
    mut each: impl FnMut(&'p str, Local<'p, 'a>),
) {
    if declaration.declare() {
        return;
    }
    match declaration {
        Declaration::VariableDeclaration(variables) => {
            for variable in &variables.declarations {
                match (&variable.id, &variable.init) {
                    (BindingPattern::BindingIdentifier(id), Some(value)) => {
                        each(id.name.as_str(), Local::Value(value));
                    }
                    (pattern, _) => {
                        for id in pattern.get_binding_identifiers() {
                            each(id.name.as_str(), Local::Other);
                        }
                    }
                }
            }
        }
        Declaration::FunctionDeclaration(function) => {
            if let Some(id) = &function.id {
                each(id.name.as_str(), Local::Function);
            }
        }
        Declaration::ClassDeclaration(class) => {
            if let Some(id) = &class.id {
                each(id.name.as_str(), Local::Class);
            }
        }
        Declaration::TSEnumDeclaration(it) => each(it.id.name.as_str(), Local::Other),
        Declaration::TSImportEqualsDeclaration(it) => each(it.id.name.as_str(), Local::Other),
        Declaration::TSNamespaceDeclaration(_)
        | Declaration::TSTypeAliasDeclaration(_)
        | Declaration::TSInterfaceDeclaration(_)
        | Declaration::TSExternalModuleDeclaration(_)
        | Declaration::TSGlobalDeclaration(_) => {}
    }
}

/// The names of the module's top level.
pub(super) fn locals_of<'p, 'a>(program: &'p Program<'a>) -> Locals<'p, 'a> {
    let mut locals = Locals::new();
    for statement in &program.body {
        let declaration = match statement {
            Statement::ExportDeclaration(it) => Some(&it.declaration),
            other => other.as_declaration(),
        };
        if let Some(declaration) = declaration {
            for_each_name(declaration, |name, local| {
                locals.insert(name, local);
            });
        }
    }
    locals
}

pub(super) fn value_of_local<'a>(
    local: Local<'_, 'a>,
    locals: &Locals<'_, 'a>,
    depth: usize,
) -> Value {
    match local {
        Local::Function => Value::Handler,
        Local::Class => Value::Unfit("a class"),
        Local::Value(value) => value_of(value, locals, depth + 1),
        Local::Other => Value::Unknown,
    }
}

/// What is known about the value of an expression.
pub(super) fn value_of<'a>(value: &Expression<'a>, locals: &Locals<'_, 'a>, depth: usize) -> Value {
    match value.get_inner_expression() {
        Expression::FunctionExpression(_) | Expression::ArrowFunctionExpression(_) => {
            Value::Handler
        }
        Expression::ObjectExpression(object) => {
            let fits = |property: &ObjectPropertyKind<'a>| match property {
                ObjectPropertyKind::ObjectProperty(it) => {
                    it.key.static_name().is_none_or(|name| name == "fetch")
                }
                ObjectPropertyKind::SpreadProperty(_) => true,
            };
            if object.properties.iter().any(fits) {
                Value::Handler
            } else {
                Value::Unfit("an object without `fetch`")
            }
        }
        Expression::Identifier(name) if depth < DEPTH_MAX => match locals.get(name.name.as_str()) {
            Some(local) => value_of_local(*local, locals, depth),
            None => Value::Unknown,
        },
        Expression::ClassExpression(_) => Value::Unfit("a class"),
        Expression::ArrayExpression(_) => Value::Unfit("a list"),
        Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => Value::Unfit("text"),
        Expression::NumericLiteral(_) | Expression::BigIntLiteral(_) => Value::Unfit("a number"),
        Expression::BooleanLiteral(_) => Value::Unfit("true or false"),
        Expression::NullLiteral(_) => Value::Unfit("null"),
        _ => Value::Unknown,
    }
}
