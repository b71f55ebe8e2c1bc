// SPDX-License-Identifier: Apache-2.0

//! With the feature `module`: bindings to nginx's headers and the C shim.
//!
//! The nginx to build for is named by `NGINX_BUILD_DIR` (its configured `objs` directory) and `NGINX_SOURCE_DIR` (its
//! source tree, by default the parent of `objs`). Without them the headers of Debian's `nginx-dev` are configured in a copy
//! of their own: they match the installed nginx.

fn main() {
    // What the spawner is made of (pidfd, prctl, close_range, /proc) and epoll are Linux's own.
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system == "linux" {
        #[cfg(feature = "module")]
        module::build();
    } else {
        println!("cargo::error=ngx_ws_exec needs Linux, any C library of it; it cannot be built for {system}");
    }
}

#[cfg(feature = "module")]
mod module {
    use std::collections::HashSet;
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use bindgen::FieldVisibilityKind;
    use bindgen::callbacks::{FieldInfo, ParseCallbacks};

    const DEBIAN_TREE: &str = "/usr/share/nginx/src";

    const HEADERS: [&str; 2] = ["ngx/ngx_ws_exec.h", "ngx/ngx_ws_detached.h"];

    const LAYOUT: &str = "ngx/layout";

    const SOURCES: [&str; 13] = [
        "ngx/ngx_ws_exec.c",
        "ngx/ngx_ws_event.c",
        "ngx/ngx_ws_regex.c",
        "ngx/ngx_ws_request.c",
        "ngx/ngx_ws_headers.c",
        "ngx/ngx_ws_subrequest.c",
        "ngx/ngx_ws_cgi.c",
        "ngx/ngx_ws_ssl.c",
        "ngx/ngx_ws_upstream.c",
        "ngx/ngx_ws_detached.c",
        "ngx/ngx_ws_detached_answer.c",
        "ngx/ngx_ws_detached_connection.c",
        "ngx/ngx_ws_detached_copy.c",
    ];

    /// Where the headers of one nginx are.
    struct Tree {
        source: PathBuf,
        build: PathBuf,
    }

    pub fn build() {
        for input in SOURCES.iter().chain(&HEADERS).chain(&[LAYOUT, "build.rs"]) {
            println!("cargo::rerun-if-changed={input}");
        }
        for variable in ["NGINX_SOURCE_DIR", "NGINX_BUILD_DIR", "WS_EXEC_SHIM_CFLAGS"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }

        let tree = Tree::find();
        let includes = tree.includes();
        let guarded = guarded();
        write_layout(&guarded);
        bind(&includes, &guarded);
        compile_shim(&includes);
    }

    impl Tree {
        fn find() -> Self {
            let build = folder("NGINX_BUILD_DIR");
            let source = folder("NGINX_SOURCE_DIR");
            let tree = match (source, build) {
                (Some(source), Some(build)) => Tree { source, build },
                (Some(source), None) => Tree { build: source.join("objs"), source },
                (None, Some(build)) => {
                    let source = build.parent().map(Path::to_path_buf).unwrap_or_default();
                    Tree { source, build }
                }
                (None, None) => Self::configure_debian(),
            };
            for file in [tree.source.join("src/core/nginx.h"), tree.build.join("ngx_auto_config.h")] {
                assert!(
                    file.exists(),
                    "{} is missing: NGINX_SOURCE_DIR and NGINX_BUILD_DIR must name a configured nginx source tree",
                    file.display()
                );
            }
            // What this script itself has written is newer than its start: named here, it would run again every time.
            if !tree.build.starts_with(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")) {
                println!("cargo::rerun-if-changed={}", tree.build.join("ngx_auto_config.h").display());
            }
            tree
        }

        /// Configures a copy of nginx-dev's headers: the package ships them without `objs`.
        fn configure_debian() -> Self {
            let origin = Path::new(DEBIAN_TREE);
            println!("cargo::rerun-if-changed={DEBIAN_TREE}/conf_flags");
            assert!(
                origin.join("conf_flags").exists(),
                "no nginx to build for: install nginx-dev, or set NGINX_SOURCE_DIR and NGINX_BUILD_DIR"
            );
            let source = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("nginx");
            if source.exists() {
                fs::remove_dir_all(&source).expect("the old copy of the nginx headers can be removed");
            }
            run(Command::new("cp").arg("-rL").arg(origin).arg(&source));
            run(Command::new("bash")
                .args(["-c", ". ./conf_flags && ./configure \"${NGX_CONF_FLAGS[@]}\" >configure.log 2>&1"])
                .current_dir(&source));
            Tree { build: source.join("objs"), source }
        }

        fn includes(&self) -> Vec<PathBuf> {
            let mut includes: Vec<PathBuf> = [
                "core",
                "event",
                "event/modules",
                "event/quic",
                "os/unix",
                "http",
                "http/modules",
                "http/v2",
                "http/v3",
            ]
            .iter()
            .map(|part| self.source.join("src").join(part))
            .filter(|path| path.exists())
            .collect();
            includes.push(self.build.clone());
            includes.push(PathBuf::from("ngx"));
            includes
        }
    }

    /// The folder that a variable names. The linker and the C compiler may run elsewhere than this script, so that a relative
    /// path, which is relative to the manifest of the crate, is made absolute.
    fn folder(variable: &str) -> Option<PathBuf> {
        let path = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
        Some(fs::canonicalize(&path).unwrap_or_else(|error| panic!("{variable}={}: {error}", path.display())))
    }

    fn run(command: &mut Command) {
        let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(status.success(), "{command:?}: {status}");
    }

    fn out(file: &str) -> PathBuf {
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(file)
    }

    /// A struct that the layout guard looks at.
    struct Guarded {
        name: String,
        fields: Vec<String>,
        bit_fields: Vec<String>,
    }

    fn guarded() -> Vec<Guarded> {
        let list = fs::read_to_string(LAYOUT).expect("the list for the layout guard is there");
        let structs = list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let (bit_fields, fields): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with(':'));
            let fields = fields.into_iter().map(str::to_owned).collect();
            let bit_fields = bit_fields.into_iter().map(|field| field[1..].to_owned()).collect();
            Some(Guarded { name, fields, bit_fields })
        });
        structs.collect()
    }

    /// Both sides of the layout guard, of one list.
    fn write_layout(guarded: &[Guarded]) {
        let (mut c, mut rust) = (String::new(), String::from("&[\n"));
        let (mut setters, mut c_bits, mut rust_bits) = (String::new(), String::new(), String::from("&[\n"));
        for Guarded { name, fields, bit_fields } in guarded {
            c.push_str(&format!("    {{ \"sizeof({name})\", sizeof({name}) }},\n"));
            rust.push_str(&format!("    size_of::<{name}>(),\n"));
            for field in fields {
                c.push_str(&format!("    {{ \"offsetof({name}, {field})\", offsetof({name}, {field}) }},\n"));
                // What is a word of Rust's has another name in the bindings.
                let field = if field == "type" { "type_" } else { field };
                rust.push_str(&format!("    offset_of!({name}, {field}),\n"));
            }
            for field in bit_fields {
                setters.push_str(&format!(
                    "static void\nngx_ws_set_{name}_{field}(void *s, ngx_uint_t ones)\n\
                     {{\n    (({name} *) s)->{field} = ones;\n}}\n\n"
                ));
                c_bits.push_str(&format!("    {{ \"{name}.{field}\", sizeof({name}), ngx_ws_set_{name}_{field} }},\n"));
                rust_bits.push_str(&format!(
                    "    BitField {{\n        size: size_of::<{name}>(),\n        \
                     // SAFETY: the guard, which alone calls it, passes memory of that size.\n        \
                     set: |all| unsafe {{ {name}::set_{field}_raw(all.cast(), !0) }},\n    }},\n"
                ));
            }
        }
        rust.push_str("]\n");
        rust_bits.push_str("]\n");
        c_bits = format!("{setters}const ngx_ws_bits_t  ngx_ws_bits[] = {{\n{c_bits}}};\n");
        for (file, text) in
            [("ngx_ws_layout.inc", c), ("ngx_ws_bits.inc", c_bits), ("layout.rs", rust), ("bits.rs", rust_bits)]
        {
            fs::write(out(file), text).expect("the layout can be written");
        }
    }

    /// Which fields of nginx's structs Rust can touch: those that the layout guard looks at, so that it cannot miss one.
    #[derive(Debug)]
    struct Visible(HashSet<(String, String)>);

    impl Visible {
        fn of(guarded: &[Guarded]) -> Self {
            let of_struct = |guarded: &Guarded| {
                let fields = guarded.fields.iter().chain(&guarded.bit_fields);
                fields.map(|field| (tag(&guarded.name).to_owned(), field.clone())).collect::<Vec<_>>()
            };
            Self(guarded.iter().flat_map(of_struct).collect())
        }
    }

    impl ParseCallbacks for Visible {
        fn field_visibility(&self, field: FieldInfo<'_>) -> Option<FieldVisibilityKind> {
            let FieldInfo { type_name, field_name, .. } = field;
            let is_of_nginx = type_name.starts_with("ngx_") && !type_name.starts_with("ngx_ws_");
            let is_guarded = self.0.contains(&(tag(type_name).to_owned(), field_name.trim_end_matches('_').to_owned()));
            (is_of_nginx && !is_guarded).then_some(FieldVisibilityKind::Private)
        }
    }

    /// The name of a struct without its ending: `ngx_buf_t` is `struct ngx_buf_s`.
    fn tag(name: &str) -> &str {
        name.strip_suffix("_t").or_else(|| name.strip_suffix("_s")).unwrap_or(name)
    }

    /// nginx's items and those of the shim, apart: the compiler is to say which of the latter nobody uses.
    fn bind(includes: &[PathBuf], guarded: &[Guarded]) {
        let nginx = bindings(includes)
            .parse_callbacks(Box::new(Visible::of(guarded)))
            .allowlist_item("ngx_.*|NGX_.*|nginx_version")
            .allowlist_type("in_port_t")
            .blocklist_item("ngx_(stream|mail)_.*|NGX_(STREAM|MAIL)_.*|ngx_ws_.*");
        let shim = bindings(includes).allowlist_item("ngx_ws_.*").allowlist_recursively(false);
        for (builder, file) in [(nginx, "bindings.rs"), (shim, "shim.rs")] {
            let made = builder.generate().expect("nginx's headers can be read by libclang");
            made.write_to_file(out(file)).expect("the bindings can be written");
        }
    }

    fn bindings(includes: &[PathBuf]) -> bindgen::Builder {
        bindgen::Builder::default()
            .header("ngx/ngx_ws_exec.h")
            .clang_args(includes.iter().map(|path| format!("-I{}", path.display())))
            // Types of other libraries are only ever pointed to.
            .opaque_type("(SSL|SSL_.*|ssl_.*|BIO|X509.*|EVP_.*|OSSL_.*|pcre2?_.*|z_stream.*)")
            .derive_copy(true)
            .derive_default(false)
            .derive_debug(false)
            .layout_tests(false)
            .generate_comments(false)
            .prepend_enum_name(false)
            .use_core()
    }

    fn compile_shim(includes: &[PathBuf]) {
        let mut shim = cc::Build::new();
        shim.files(SOURCES).includes(includes).include(out("")).warnings(true).flag("-Wno-unused-parameter");
        for flag in env::var("WS_EXEC_SHIM_CFLAGS").unwrap_or_default().split_whitespace() {
            shim.flag(flag);
        }
        shim.compile("ngx_ws_exec_shim");
    }
}
