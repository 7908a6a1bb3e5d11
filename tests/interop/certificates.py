"""Authorities and certificates, made by the `openssl` command in a directory that is removed at the end."""

import atexit
import functools
import pathlib
import shutil
import subprocess
import tempfile

SECONDS = 30


class Certificates:
    """An authority with a server's certificate for 127.0.0.1 and localhost, a client's, and one that it has not signed."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="oncemq-test-tls-"))
        atexit.register(shutil.rmtree, self.directory)
        self.authority = self.directory / "ca.pem"
        self._make_authority("ca")
        self._make_authority("stranger")
        self._sign("ca", "server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self._sign("ca", "client", "subjectAltName=email:client@plant.example")
        self._sign("stranger", "foreign", "subjectAltName=email:foreign@plant.example")

    def pair(self, name):
        """The files of a certificate and of its key."""
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def server_flags(self):
        certificate, key = self.pair("server")
        return ["--tls-certificate", certificate, "--tls-key", key]

    def _make_authority(self, name):
        certificate, key = self.pair(name)
        self._openssl("req", "-x509", *new_key(key), "-subj", f"/CN={name}", "-days", "2", "-out", certificate)

    def _sign(self, authority, name, extension):
        certificate, key = self.pair(name)
        authority_certificate, authority_key = self.pair(authority)
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        extensions.write_text(extension)
        self._openssl("req", "-new", *new_key(key), "-subj", f"/CN={name}", "-out", request)
        signing = ["-CA", authority_certificate, "-CAkey", authority_key, "-CAcreateserial", "-days", "2"]
        self._openssl("x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", certificate)

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=SECONDS)


def new_key(path):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]


@functools.cache
def certificates():
    """Those that all tests of one run share."""
    return Certificates()
