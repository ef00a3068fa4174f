# Real web servers: one nginx each for the workstation, every guest and every node. Each says who it is and what it saw.
# And one server for UDP.
# shellcheck shell=bash

# serve NAME ADDRESS PORT GREETING
serve() {
    local name=$1 address=$2 port=$3 greeting=$4 home=$STATE/servers/$1
    mkdir -p "$home/upload"
    # One process without a master: a lab of nine nodes has twelve of these. It detaches once it listens.
    cat >"$home/nginx.conf" <<NGINX
user root;
daemon on;
master_process off;
pid $home/pid;
error_log $home/error.log;
events { worker_connections 1024; }
http {
    access_log $home/access.log;
    client_max_body_size 64m;
    client_body_temp_path $home/tmp-body;
    proxy_temp_path $home/tmp-proxy;
    fastcgi_temp_path $home/tmp-fastcgi;
    uwsgi_temp_path $home/tmp-uwsgi;
    scgi_temp_path $home/tmp-scgi;
    default_type text/plain;
    sendfile on;
    server {
        listen $address:$port;
        location / { return 200 "$greeting saw \$remote_addr:\$remote_port -> \$server_addr:\$server_port\n"; }
        location /random { root $STATE; }
        location /upload/ { root $home; dav_methods PUT; }
    }
}
NGINX
    within "$name" nginx -p "$home" -e "$home/error.log" -c "$home/nginx.conf" ||
        die "the web server of $name does not start: see above and $home/error.log"
}

# udp NAME VERB...: the UDP service, either end of it
udp() {
    local name=$1
    shift
    within "$name" perl "$SCRIPTS/lab.d/udp.pl" "$@"
}

start_servers() {
    local i g
    # Random bytes, so that no two pieces of the file are alike and a mix-up shows in the hash.
    head -c "$(sized 20000000 5000000)" /dev/urandom >"$STATE/random"
    serve "$CLIENT" "$CLIENT_ADDRESS" "$CLIENT_PORT" "$CLIENT"
    for g in 1 2; do
        serve "${GUEST[g]}" "${GUEST_ADDRESS[g]}" "${GUEST_PORT[g]}" "${GUEST[g]}"
    done
    udp "${GUEST[1]}" serve "${GUEST_ADDRESS[1]}" "$ECHO_PORT" || die "the UDP server of ${GUEST[1]} does not start: see above"
    for ((i = 1; i <= NODES; i++)); do
        serve "${NODE[i]}" "${PUBLIC[i]}" "$NODE_PORT" "${NODE[i]} itself"
    done
}
