"""``hwnas bundle export``: a bundle for those who have a fleet manager already."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json


class Form(StrEnum):
    """Whose."""

    MENDER = "mender"
    RAUC = "rauc"
    TRITON = "triton"


@command
def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle's directory or archive; it is verified first.")],
    form: Annotated[Form, typer.Option("--for", help="mender, rauc or triton.")],
    output: Annotated[Path, typer.Option("--out", help="The artifact's file; of Triton the model repository.")],
    device_type: Annotated[list[str] | None, typer.Option(help="Mender's name of a board; once for each.")] = None,
    module: Annotated[Path | None, typer.Option(help="Write Mender's update module for the boards there, too.")] = None,
    compatible: Annotated[str | None, typer.Option(help="RAUC's name of the boards.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate that RAUC signs with, PEM.")] = None,
    cert_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    engine: Annotated[
        int | None, typer.Option(min=0, help="For Triton, the prebuilt TensorRT engine of that number, not the ONNX.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a Mender artifact, a RAUC bundle, or models in a repository of Triton.

    The bundle's own signature travels inside Mender's and RAUC's, and the board's agent checks it there.
    """
    from tempfile import TemporaryDirectory

    from hwnas.deploy.exports import update_module, write_mender, write_rauc, write_triton
    from hwnas.deploy.keys import KeyStore
    from hwnas.deploy.verification import verify_bundle
    from hwnas.errors import UserError
    from hwnas.files import write_atomic

    own: dict[Form, dict[str, object]] = {
        Form.MENDER: {"--device-type": device_type, "--module": module},
        Form.RAUC: {"--compatible": compatible, "--cert": cert, "--cert-key": cert_key},
        Form.TRITON: {"--engine": engine},
    }
    for other, options in own.items():
        said = [option for option, value in options.items() if value is not None]
        if other is not form and said:
            raise UserError(f"{said[0]} is for {other}, not for {form}; leave it out.")
    with TemporaryDirectory() as directory:
        verified = verify_bundle(bundle, KeyStore().trusted(), unpack_to=Path(directory))
        written = [output]
        if form is Form.MENDER:
            write_mender(verified, output, device_type or ())
        elif form is Form.RAUC:
            write_rauc(verified, output, compatible, cert, cert_key)
        else:
            written = write_triton(verified, output, engine)
    if module is not None:
        write_atomic(module, update_module(), mode=0o755)
        written.append(module)
    if json:
        print_json({"bundle": str(bundle), "for": form.value, "written": [str(path) for path in written]})
        return
    for path in written:
        out.print(f"[bold]{path}[/]", soft_wrap=True)
