# The UDP tracker in a small image.
#
#   docker build -f docker/aquatic_udp.Dockerfile -t aquatic_udp .
#   docker run --rm -p 3000:3000/udp aquatic_udp
#
# With a configuration of your own:
#
#   docker run --rm --network host -v /etc/aquatic:/etc/aquatic:ro aquatic_udp \
#       -c /etc/aquatic/aquatic_udp.toml
#
# Prefer --network host: behind Docker's port forwarding the tracker may see the forwarder's address
# instead of the client's, and hand that out to other clients. Docker's default seccomp profile
# forbids io_uring, so leave `network.backend` at auto.

FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package aquatic_udp --bin aquatic_udp

FROM debian:bookworm-slim
COPY --from=build /source/target/release/aquatic_udp /usr/local/bin/
USER nobody
EXPOSE 3000/udp
ENTRYPOINT ["aquatic_udp"]
