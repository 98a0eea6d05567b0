# The program and what it is linked with, and nothing else: no shell, no packages, no root.
#
#   docker build --tag registry.example/failover:0.1.0 .
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin failover && \
    install -D --strip target/release/failover /image/usr/local/bin/failover
RUN ldd /image/usr/local/bin/failover | grep -o '/[^ ]*' | xargs cp --parents --dereference --target-directory=/image && \
    cp --parents --dereference /etc/ssl/certs/ca-certificates.crt /image && \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf && \
    install -d -m 1777 /image/tmp /image/var/lib/failover

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin FAILOVER_STATE=/var/lib/failover
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/failover"]
