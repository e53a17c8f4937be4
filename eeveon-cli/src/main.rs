//! The binary `ee-deploy`; everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    eeveon_cli::main(std::env::args_os()).into()
}
