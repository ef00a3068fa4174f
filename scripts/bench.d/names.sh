# Names and addresses of the lab that is measured in: those of `dunnat lab up --family 4`, in words of bash.
# shellcheck shell=bash
#
# Arrays are counted from 1, and one index means one node (or one guest) in all of them.

CLIENT=ws CLIENT_ADDRESS=192.168.122.1
NODE=([1]=node1 [2]=node2)
TAG=([1]=1 [2]=2)
PREFIX=([1]=0a:00:00:00:00:00/24 [2]=0e:00:00:00:00:00/24)
PUBLIC=([1]=192.168.122.11 [2]=192.168.122.12)
GUEST=([1]=guest1 [2]=guest2)
GUEST_ADDRESS=([1]=10.5.5.201 [2]=10.5.5.202)
PIPE=(eth1.100 eth2.100)
SERVICE_PORT=([1]=80 [2]=8080)
ECHO_PORT=5353

# service NAME PROTOCOL PORT GUEST: one more, for the cluster file
service() {
    cat <<TOML

[[service]]
name  = "$1"
proto = "$2"
port  = $3
guest = "${GUEST_ADDRESS[$4]}"
TOML
}
