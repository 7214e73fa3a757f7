#!/usr/bin/env bash
# Where webhooks must never go: URLs in odd notations, names that lead to every network that is not
# public, answers that redirect there, and a name server that changes its mind, all through the sender
# of the scheduler, in a network of its own whose every address has a route. The firewall counts the
# packets to these networks, and none may leave; that it counts is shown with packets past our sender.
. "$(dirname "$0")/lib.sh"
net=$tree/tests/flow/hostile_net.py
receiver=8.8.4.4 receiver6=2606:4700::4444 silent=8.8.4.5 named=10.77.0.1 resolver=9.9.9.9

hex_of() { python3 -c "import ipaddress, sys; print(ipaddress.ip_address(sys.argv[1]).packed.hex())" "$1"; }

# ---- in the namespace
set_up_net() {
    mount --bind "$work/resolv.conf" /etc/resolv.conf && mount --bind "$work/hosts" /etc/hosts || return
    ip link set lo up && ip link add v0 type veth peer name v1 && ip link set v1 up && ip link set v0 up || return
    for address in $receiver $silent $named $resolver; do ip address add $address/32 dev v0 || return; done
    ip address add $receiver6/128 dev v0 nodad || return
    ip route add default dev v0 && ip -6 route add default dev v0 && ip -6 route add multicast ff00::/8 dev v0 table local || return
    nft -f "$work/rules"
}

inside() {
    trap 'kill $(jobs -p)' EXIT
    cd "$work" || exit 9
    set_up_net || exit 9
    "$net" names $resolver >names.said 2>&1 &
    "$net" receiver $receiver $receiver6 $named >receiver.said 2>&1 &
    for said in names.said receiver.said; do
        for _ in $(seq 200); do grep -q ready $said && break; sleep 0.05; done
        grep -q ready $said || exit 8
    done
    post <good >good.out 2>good.err || exit 7
    post <hostile >hostile.out 2>hostile.err || exit 7
    for turn in first second third; do
        post <flip >"flip.$turn" 2>>flip.err || exit 7
    done
    nft list ruleset >counted || exit 6
    "$net" knock >knocked || exit 6
    nft list ruleset >counted.after || exit 6
}

post() { # as an environment that would lead elsewhere has it
    timeout 60 env http_proxy=http://127.0.0.1:3128 https_proxy=http://127.0.0.1:3128 ALL_PROXY=socks5://127.0.0.1:1080 \
        "$MSERVE_BIN/tests/flow/webhook_post"
}

enter=''
for how in -nm -rnm; do # as root, or as whoever may be root in there
    if why=$(unshare $how sh -c 'ip link set lo up && ip link add v0 type veth peer name v1 &&
            nft add table inet t && ip -6 address add 2606:4700::1/128 dev v0 nodad' 2>&1); then
        enter="unshare $how" && break
    fi
done
if [ -z "$enter" ]; then
    skip packets_to_denied_addresses "a network of its own may not be made here: ${why%%$'\n'*}"
    done_testing
fi

# ---- what is asked of it
printf 'nameserver %s\nsearch v4.test\noptions timeout:15 attempts:2\n' $resolver >"$work/resolv.conf"
echo "127.0.0.1 localhost" >"$work/hosts"
"$net" rules $named >"$work/rules"
export MSERVE_WEBHOOK_HTTP_HOSTS="*.test,$receiver,[$receiver6],$receiver6,$named,127.0.0.1,localhost,169.254.169.254,::1"
export MSERVE_WEBHOOK_PORTS=80,443 MSERVE_WEBHOOK_PRIVATE_NETWORKS=10.77.0.0/24 MSERVE_WEBHOOK_TIMEOUT=30s
good=$(hex_of $receiver) good6=$(hex_of $receiver6) quiet=$(hex_of $silent)
samples=$("$net" samples)

cat >"$work/good" <<END
http://$good.v4.test/x
http://$good6.v6.test/x
http://$(hex_of $named).v4.test/x
http://$receiver/x
http://[$receiver6]/x
END

{
    # as texts
    for host in localhost LocalHost localhost. a.localhost 127.0.0.1 127.1 127.0.1 0 0.0.0.0 2130706433 017700000001 \
        0x7f000001 0x7f.1 0177.0.0.1 127.0.0.1. 169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 \
        169.254.43518 169.16689662 '[::]' '[::1]' '[::ffff:127.0.0.1]' '[::ffff:a9fe:a9fe]' '[::127.0.0.1]' \
        '[64:ff9b::a9fe:a9fe]' '[2002:7f00:1::]' '[fe80::1%25v0]' '[fd00:ec2::254]' metadata.google.internal \
        u@127.0.0.1 8.8.4.4@127.0.0.1 127.0.0.1#.test '127.0.0.1\.test' 127.0.0.1%23.test 127%2e0.0.1 10.0.0.1 192.168.1.1; do
        printf 'http://%s/\nhttps://%s/\n' "$host" "$host"
    done
    printf '%s://127.0.0.1/\n' ftp file gopher dict ldap telnet smtp unix http+unix
    echo 'http://127.0.0.1:22/'
    # as what a name leads to: each network, alone and beside one that is public
    for sample in $samples; do
        kind=v4; [ ${#sample} = 8 ] || kind=v6
        printf '%s\n' "http://$sample.$kind.test/" "https://$sample.$kind.test/" "http://$sample.alias.test/" \
            "http://$quiet.$sample.both.test/"
        [ $kind = v6 ] || echo "https://$sample/" # by the search list of resolv.conf
    done
    # as what an answer asks for
    for to in http://127.0.0.1/ https://127.0.0.1/ http://169.254.169.254/latest/meta-data/ http://7f000001.v4.test/ \
        //169.254.169.254/ 'http://[::ffff:169.254.169.254]/' file:///etc/passwd gopher://127.0.0.1:6379/_; do
        for status in 300 301 302 303 305 307 308; do echo "http://$good.v4.test/$status/${to//\//%2F}"; done
    done
} >"$work/hostile"
for what in refresh/http:%2F%2F127.0.0.1%2F alt-svc/127.0.0.1:443 101 401; do
    echo "http://$good.v4.test/$what" >>"$work/hostile"
done
n=0
for sample in $samples; do
    n=$((n + 1)) home=$good
    [ ${#sample} = 8 ] || home=$good6
    echo "http://$home.$sample.n$n.flip.test/"
done >"$work/flip"

export -f inside set_up_net post
export work net tree receiver receiver6 silent named resolver
ok "all of it is tried, in a network of its own" $enter bash -c inside

# ---- what came of it
hostile=$(wc -l <"$work/hostile")
ok "at least 60 URLs ($hostile, of them $(grep -c '/30[0-9]/' "$work/hostile") that redirect)" [ "$hostile" -ge 60 ]
is "$(cut -f 1 "$work/good.out" | sort | uniq -c | xargs)" "5 200" "public addresses, and networks that the settings name, are delivered to"
is "$(wc -l <"$work/hostile.out")" "$hostile" "each URL has its outcome"
is "$(awk -F '\t' '$2 !~ /8080404/ && $1 != 0' "$work/hostile.out")" "" "none of the addresses answers"
is "$(awk -F '\t' 'match($2, /\/30[0-9]\//) && $1 != substr($2, RSTART + 1, 3)' "$work/hostile.out")" "" "an answer that redirects is the answer"
is "$(awk -F '\t' '$2 ~ /(v4|v6|alias)\.test\/$/ && $3 !~ /may not be sent to/' "$work/hostile.out")" "" "what a name leads to is refused by its address"
flips=$(wc -l <"$work/flip")
is "$(cut -f 1 "$work/flip.first" | sort | uniq -c | xargs)" "$flips 200" "$flips names lead to a public address at first"
is "$(cat "$work/flip.second" "$work/flip.third" | awk -F '\t' '$1 == 0 && $3 ~ /may not be sent to/' | wc -l)" $((2 * flips)) "and are refused when they have changed their mind"

packets() { sed -n "s/.*counter packets \([0-9]*\) bytes .*comment \"$1.*/\1/p" "$work/$2"; }
is "$(packets 'denied' counted | awk '{ sum += $1 } END { print sum }')" 0 "the firewall counted no packet to $(packets denied counted | wc -l) networks"
ok "and some to the network that the settings name" [ "$(packets named counted)" -gt 0 ]
is "$(packets denied counted.after | grep -cx 0)" 0 "it does count: a packet past our sender is seen in each of them"
note "$(grep -c . "$work/knocked" || true) of these could not be sent"
done_testing
