//! Where the web desk is listened for, as flags say.

use super::arguments::{DeskListen, Listen};
use crate::{
    driver::engine::DeskOutlet,
    error::Error,
    vantage::certificate::{Certificate, Files},
};

/// Where the desk is listened for.
///
/// # Errors
/// Where tokens would go in the clear to other hosts, or the certificate cannot be used.
pub fn listen(args: &DeskListen) -> Result<Option<DeskOutlet>, Error> {
    let Listen::At(address) = args.desk_listen else {
        return Ok(None);
    };
    let certificate = match (&args.desk_cert, &args.desk_key) {
        (Some(certificate), Some(key)) => {
            let files = Files {
                certificate: certificate.clone(),
                key: key.clone(),
            };
            Some(Certificate::read(files).map_err(|e| Error::Certificate(e.into()))?)
        }
        (None, _) | (_, None) if address.ip().is_loopback() => None,
        (None, _) | (_, None) => {
            return Err(Error::Usage(format!(
                "--desk-listen {address} would send tokens in the clear: add --desk-cert and --desk-key, or listen on \
                 127.0.0.1 behind a proxy of this host that speaks HTTPS"
            )));
        }
    };
    Ok(Some(DeskOutlet {
        address,
        certificate,
    }))
}
