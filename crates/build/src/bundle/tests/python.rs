//! Builds of Python functions and of programs. Those of Python run the real `python3`.

use std::os::unix::fs::PermissionsExt;

use model::Kind;

use super::*;

fn on_python(source: &str) -> World {
    world(&[
        ("bungee.toml", "[functions.hello]\n"),
        ("src/hello.py", source),
    ])
}

impl World {
    /// What is refused, without the next step.
    async fn message(&self) -> String {
        let told = self.refused().await;
        told.split(" | ").next().unwrap().to_owned()
    }
}

impl Done {
    fn called(&self) -> (Kind, &str) {
        (self.built.kind, self.built.handler.as_deref().unwrap())
    }
}

#[tokio::test]
async fn a_python_module_says_by_its_names_what_it_is() {
    for (source, kind, handler) in [
        ("def handler(event, context): pass", Kind::Event, "handler"),
        (
            "async def lambda_handler(event, context): pass",
            Kind::Event,
            "lambda_handler",
        ),
        (
            "import flask\napp = flask.Flask(__name__)",
            Kind::Web,
            "app",
        ),
        (
            "async def app(scope, receive, send): pass",
            Kind::Web,
            "app",
        ),
        (
            "def handler(environ, start_response): pass",
            Kind::Web,
            "handler",
        ),
        (
            "try:\n  from a import handler\nexcept ImportError:\n  handler = None",
            Kind::Event,
            "handler",
        ),
        ("if True:\n  app = 1", Kind::Web, "app"),
    ] {
        let done = on_python(source).build().await;
        assert_eq!(done.called(), (kind, handler), "{source}");
        assert_eq!(done.built.entry, "hello.py");
    }
    let both = on_python("def handler(e, c): pass\napp = object()\n");
    assert_eq!(
        both.message().await,
        "src/hello.py:1: cannot tell whether this is a web or an event handler: the module has `app` and `handler`"
    );
    both.write("bungee.toml", "[functions.hello]\nkind = 'web'\n");
    assert_eq!(both.build().await.called(), (Kind::Web, "app"));
    both.write("bungee.toml", "[functions.hello]\nkind = 'event'\n");
    assert_eq!(both.build().await.called(), (Kind::Event, "handler"));
}

#[tokio::test]
async fn what_is_wrong_with_a_python_module_is_said_with_its_line() {
    let world = on_python("def handler(event, context):\n  return 1 +\n");
    let told = world.refused().await;
    assert!(told.starts_with("src/hello.py:2:"), "{told}");
    let world = on_python("def handle(event, context): pass\n");
    assert_eq!(
        world.message().await,
        "src/hello.py:1: the module has no handler: it has `handle`"
    );
    world.write("bungee.toml", "[functions.hello]\nhandler = 'handler'\n");
    let error = world.error().await;
    assert_eq!(
        world.message().await,
        "bungee.toml:2: `handler` is `handler`, which src/hello.py does not have; it has `handle`"
    );
    assert_eq!(error.hint.as_deref(), Some("did you mean `handle`?"));
    let tools = Tools {
        python: "no-such-python".into(),
        ..Tools::default()
    };
    let (_out, built) = world.try_build(&tools).await;
    let error = built.unwrap_err();
    assert!(error.message.contains("no `python3` on PATH"), "{error}");
    assert!(error.hint.unwrap().contains("apt-get install"));
}

#[tokio::test]
async fn a_python_bundle_is_the_folder_that_imports_start_from() {
    let handler = "def handler(event, context): pass\n";
    let world = world(&[
        (
            "bungee.toml",
            "[functions.hello]\nentry = 'src/shop/api/main.py'\n",
        ),
        ("src/shop/__init__.py", ""),
        ("src/shop/api/__init__.py", ""),
        ("src/shop/api/main.py", handler),
        ("src/shop/price.py", ""),
        ("src/data.json", "{}"),
        ("src/__pycache__/x.pyc", ""),
        ("src/.env", "SECRET=1"),
        ("src/venv/pyvenv.cfg", ""),
        ("src/venv/lib.py", ""),
        ("other/x.py", ""),
    ]);
    let done = world.build().await;
    assert_eq!(done.built.entry, "shop/api/main.py");
    assert_eq!(
        done.paths(),
        [
            "data.json",
            "shop/__init__.py",
            "shop/api/__init__.py",
            "shop/api/main.py",
            "shop/price.py"
        ]
    );
    assert_eq!(world.relative(&done.built), ["bungee.toml", "src"]);

    // Lambda's way to write it says itself where imports start.
    world.write(
        "bungee.toml",
        "[functions.hello]\nruntime = 'python'\nhandler = 'src.shop.api.main.handler'\n",
    );
    let done = world.build().await;
    assert_eq!(done.built.entry, "src/shop/api/main.py");
    assert_eq!(done.called(), (Kind::Event, "handler"));
    assert!(done.paths().contains(&"other/x.py"), "{:?}", done.paths());
    assert!(!done.paths().contains(&"bungee.toml"));
}

#[tokio::test]
async fn python_packages_are_installed_once_and_go_along() {
    let world = world(&[
        ("bungee.toml", "[functions.hello]\nentry = 'src/hello.py'\n"),
        (
            "src/hello.py",
            "import rope\ndef handler(event, context): return rope.LENGTH\n",
        ),
        ("requirements.txt", "./rope\n"),
        ("rope/rope.py", "LENGTH = 7\n"),
        (
            "rope/setup.py",
            "from setuptools import setup\nsetup(name='rope', version='1', py_modules=['rope'])\n",
        ),
    ]);
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = said.clone();
    let tools = Tools {
        heard: Some(std::sync::Arc::new(move |line: &str| {
            hears.lock().unwrap().push(line.to_owned());
        })),
        ..Tools::default()
    };
    for _ in 0..2 {
        let (out, built) = world.try_build(&tools).await;
        let done = Done {
            out,
            built: built.unwrap(),
        };
        let paths = done.paths();
        assert!(
            paths.contains(&"hello.py") && paths.contains(&"rope.py"),
            "{paths:?}"
        );
        assert!(
            paths
                .iter()
                .any(|path| path.starts_with("__pycache__/rope.")),
            "{paths:?}"
        );
        assert!(
            world
                .relative(&done.built)
                .contains(&"requirements.txt".to_owned())
        );
    }
    let said = said.lock().unwrap().clone();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("requirements.txt names"), "{said:?}");

    world.write("requirements.txt", "./not-there\n");
    let told = world.refused().await;
    assert!(
        told.contains("pip cannot install what") && told.contains("not-there"),
        "{told}"
    );
}

#[tokio::test]
async fn a_program_is_looked_at_before_it_is_sent() {
    let toml = "[functions.hello]\nruntime = 'provided'\nentry = 'hello/bootstrap'\n";
    let world = world(&[
        ("bungee.toml", toml),
        ("hello/bootstrap", "#!/bin/sh\n"),
        ("hello/data/words.txt", "x"),
    ]);
    let program = world.dir.path().join("hello/bootstrap");
    let error = world.error().await;
    assert_eq!(
        world.message().await,
        "bungee.toml:3: hello/bootstrap is not executable, and the `provided` runtime starts it"
    );
    assert!(error.hint.unwrap().starts_with("chmod +x "));

    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let done = world.build().await;
    assert_eq!(done.built.entry, "bootstrap");
    assert_eq!(done.built.kind, Kind::Event);
    assert_eq!(done.paths(), ["bootstrap", "data/words.txt"]);
    assert!(done.built.manifest.files()[0].executable);
    assert_eq!(world.relative(&done.built), ["bungee.toml", "hello"]);

    world.write("hello/bootstrap", "echo hello\n");
    assert!(
        world
            .refused()
            .await
            .contains("neither an ELF program nor a script")
    );
}

#[tokio::test]
async fn what_a_build_command_reads_beside_its_program_is_watched() {
    let toml = "[functions.hello]\nruntime = 'provided'\nentry = 'hello/bootstrap'\nbuild = 'cp hello/main.sh hello/bootstrap && chmod +x hello/bootstrap'\n";
    let world = world(&[
        ("bungee.toml", toml),
        ("hello/main.sh", "#!/bin/sh\n"),
        ("lib/x", ""),
    ]);
    for _ in 0..2 {
        let done = world.build().await;
        assert_eq!(
            world.relative(&done.built),
            ["bungee.toml", "hello/main.sh", "lib"]
        );
    }
}

#[tokio::test]
async fn an_entry_that_no_build_command_makes_is_watched() {
    let toml = "[functions.hello]\nbuild = 'mkdir -p src/made && date > src/made/when.txt'\n";
    let world = world(&[
        ("bungee.toml", toml),
        ("src/hello.py", "def handler(event, context): pass\n"),
    ]);
    for _ in 0..2 {
        let done = world.build().await;
        assert!(done.paths().contains(&"made/when.txt"));
        assert_eq!(world.relative(&done.built), ["bungee.toml", "src/hello.py"]);
    }
}

#[tokio::test]
async fn a_link_out_of_the_project_is_refused() {
    let world = on_python("def handler(event, context): pass\n");
    std::os::unix::fs::symlink("/etc/hostname", world.dir.path().join("src/host")).unwrap();
    assert_eq!(
        world.message().await,
        "src/host is a link out of the project, and a bundle holds only what is inside"
    );
}
