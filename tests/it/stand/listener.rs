//! An HTTP server on a free port of this host, which ends with its owner.

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle};

pub struct Listener {
    socket: Option<TcpListener>,
    port: u16,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    pub async fn bind() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            port: socket.local_addr().unwrap().port(),
            socket: Some(socket),
            task: None,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn serve(mut self, router: Router) -> Self {
        let socket = self.socket.take().unwrap();
        self.task = Some(tokio::spawn(async move {
            axum::serve(socket, router).await.unwrap();
        }));
        self
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
