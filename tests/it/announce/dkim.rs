//! Proves DKIM signatures (RFC 6376) as a receiver does, written apart from the signer.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    digest,
    signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};

/// The headers that a signature covers, where it is genuine for this public key.
pub fn prove(mail: &str, public: &[u8]) -> Result<Vec<String>, String> {
    let mail = mail.replace("\r\n", "\n");
    let (head, body) = mail.split_once("\n\n").ok_or("no body")?;
    let headers = unfold(head);
    let find = |name: &str| {
        let wanted = headers.iter().rev();
        wanted.clone().find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let (_, value) = find("DKIM-Signature").ok_or("no signature")?;
    let tag = |name: &str| {
        let all = value.split(';').filter_map(|t| t.split_once('='));
        all.map(|(n, v)| (n.trim(), v.split_whitespace().collect::<String>()))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v)
            .ok_or(format!("no {name}"))
    };
    if tag("c")? != "relaxed/relaxed" {
        return Err("another canonicalization".to_owned());
    }
    let hash = digest::digest(&digest::SHA256, relaxed_body(body).as_bytes());
    if STANDARD.encode(hash) != tag("bh")? {
        return Err("the body was changed".to_owned());
    }
    let names: Vec<String> = tag("h")?.split(':').map(str::to_owned).collect();
    let mut signed = String::new();
    for name in &names {
        if let Some((name, value)) = find(name) {
            signed.push_str(&relaxed_header(name, value));
            signed.push_str("\r\n");
        }
    }
    // The signature's own value is left empty in what is signed; `bh=` comes before it.
    let begin = value.rfind("; b=").ok_or("no b")? + "; b=".len();
    signed.push_str(&relaxed_header("dkim-signature", &value[..begin]));
    let signature = STANDARD.decode(tag("b")?).map_err(|e| e.to_string())?;
    let wrong = |_| "the signature does not fit".to_owned();
    match tag("a")?.as_str() {
        "rsa-sha256" => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(signed.as_bytes(), &signature)
            .map_err(wrong)?,
        // RFC 8463: what is signed is the hash.
        "ed25519-sha256" => {
            let hash = digest::digest(&digest::SHA256, signed.as_bytes());
            UnparsedPublicKey::new(&ED25519, public)
                .verify(hash.as_ref(), &signature)
                .map_err(wrong)?;
        }
        other => return Err(format!("unknown algorithm {other}")),
    }
    Ok(names)
}

/// Headers with their values on one line.
pub fn unfold(head: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.lines() {
        match (line.starts_with([' ', '\t']), headers.last_mut()) {
            (true, Some((_, value))) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (true | false, _) => {
                if let Some((name, value)) = line.split_once(':') {
                    headers.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
    }
    headers
}

fn relaxed_header(name: &str, value: &str) -> String {
    let value: Vec<&str> = value.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
    format!("{}:{}", name.to_ascii_lowercase(), value.join(" "))
}

fn relaxed_body(body: &str) -> String {
    let mut out = String::new();
    for line in body.split('\n') {
        let mut last_blank = false;
        let mut text = String::new();
        for c in line.chars() {
            let blank = c == ' ' || c == '\t';
            if !blank {
                text.push(c);
            } else if !last_blank {
                text.push(' ');
            }
            last_blank = blank;
        }
        out.push_str(text.trim_end_matches(' '));
        out.push_str("\r\n");
    }
    while out.ends_with("\r\n\r\n") {
        out.truncate(out.len() - 2);
    }
    if out == "\r\n" {
        out.clear();
    }
    out
}
