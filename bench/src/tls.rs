// SPDX-License-Identifier: Apache-2.0

//! TLS 1.3: a certificate for a server of a measurement, and a client that trusts it.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::wire::wrong;

/// A connection of a client.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that signs itself, and its key.
pub struct Certificate {
    /// Where it is, in the form that nginx reads.
    pub path: PathBuf,
    /// Where its key is.
    pub key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificate {
    /// Makes one in this directory.
    ///
    /// # Errors
    /// When `openssl` is missing or fails.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let [path, key, der] = ["certificate.pem", "key.pem", "certificate.der"].map(|name| directory.join(name));
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        request.args(["-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=DNS:localhost"]);
        request.args(["-addext", "basicConstraints=critical,CA:FALSE"]).arg("-keyout").arg(&key).arg("-out").arg(&path);
        run(request)?;
        let mut convert = Command::new("openssl");
        convert.args(["x509", "-outform", "DER"]).arg("-in").arg(&path).arg("-out").arg(&der);
        run(convert)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(fs::read(&der)?)).map_err(io::Error::other)?;
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { path, key, client: Arc::new(client) })
    }

    /// A connection to a server that has the certificate. The handshake is made when it is first used.
    ///
    /// # Errors
    /// When there can be none.
    pub fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}

fn run(mut command: Command) -> io::Result<()> {
    let output = command.output().map_err(|error| io::Error::other(format!("openssl: {error}")))?;
    if output.status.success() { Ok(()) } else { Err(wrong(String::from_utf8_lossy(&output.stderr))) }
}
