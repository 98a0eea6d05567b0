//! A mail server that takes what it gets (SMTP as of RFC 5321, without TLS, for one machine) and reads it as a person's
//! mail program would.

use std::io;

use mail_parser::MessageParser;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{Inbox, Received, Service, now};

/// The largest message.
const LARGEST: usize = 1024 * 1024;
/// The longest line of a command or a message (RFC 5321, 4.5.3.1.6).
const LONGEST: u64 = 1000;

/// Serves until its task ends.
///
/// # Errors
/// Where no connection can be accepted any more.
pub async fn serve(listener: TcpListener, inbox: Inbox) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let inbox = inbox.clone();
        tokio::spawn(async move {
            // A client that goes away in the middle has delivered nothing.
            let _ = converse(stream, &inbox).await;
        });
    }
}

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

async fn converse(mut stream: TcpStream, inbox: &Inbox) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut envelope = Envelope::default();
    write.write_all(b"220 mail.demo.test ESMTP\r\n").await?;
    while let Some(line) = line(&mut read).await? {
        let text = String::from_utf8_lossy(&line).into_owned();
        let verb = text
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-mail.demo.test\r\n250-8BITMIME\r\n250 SIZE 1048576".to_owned(),
            "HELO" => "250 mail.demo.test".to_owned(),
            "MAIL" => {
                envelope = Envelope {
                    from: Some(address(&text)),
                    to: Vec::new(),
                };
                "250 2.1.0 ok".to_owned()
            }
            "RCPT" if envelope.from.is_some() => {
                envelope.to.push(address(&text));
                "250 2.1.5 ok".to_owned()
            }
            "DATA" if !envelope.to.is_empty() => {
                write.write_all(b"354 go on\r\n").await?;
                match data(&mut read).await? {
                    Some(message) => {
                        deliver(&message, &std::mem::take(&mut envelope), inbox);
                        "250 2.0.0 delivered".to_owned()
                    }
                    None => "552 5.3.4 too large".to_owned(),
                }
            }
            "RCPT" | "DATA" => "503 5.5.1 in the wrong order".to_owned(),
            "RSET" => {
                envelope = Envelope::default();
                "250 2.0.0 ok".to_owned()
            }
            "NOOP" => "250 2.0.0 ok".to_owned(),
            "QUIT" => {
                return write.write_all(b"221 2.0.0 bye\r\n").await;
            }
            _ => "500 5.5.2 not known".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// One line without its end; none where the other side is gone.
async fn line(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    let n = read.take(LONGEST).read_until(b'\n', &mut line).await?;
    if n == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::other("the line is too long"));
    }
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

/// A message up to its dot; none where it is too large.
async fn data(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut fits = true;
    while let Some(mut line) = line(read).await? {
        if line == b"." {
            return Ok(fits.then_some(message));
        }
        if line.first() == Some(&b'.') {
            line.remove(0);
        }
        fits &= message.len() + line.len() + 2 <= LARGEST;
        if fits {
            message.extend_from_slice(&line);
            message.extend_from_slice(b"\r\n");
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
}

fn deliver(raw: &[u8], envelope: &Envelope, inbox: &Inbox) {
    let message = MessageParser::default().parse(raw);
    let subject = message
        .as_ref()
        .and_then(|m| m.subject())
        .map(str::to_owned);
    let text = message.as_ref().and_then(|m| m.body_text(0)).map_or_else(
        || String::from_utf8_lossy(raw).into_owned(),
        std::borrow::Cow::into_owned,
    );
    for to in &envelope.to {
        inbox.put(Received {
            at: now(),
            service: Service::Mail,
            to: to.clone(),
            subject: subject.clone(),
            text: text.clone(),
        });
    }
}

/// What stands between the angle brackets.
fn address(line: &str) -> String {
    line.split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(address, _)| address.to_owned())
        .unwrap_or_default()
}
