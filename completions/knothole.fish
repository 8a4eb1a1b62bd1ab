# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_knothole_global_optspecs
    string join \n h/help V/version
end

function __fish_knothole_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_knothole_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_knothole_using_subcommand
    set -l cmd (__fish_knothole_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c knothole -n "__fish_knothole_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_needs_command" -s V -l version -d 'Print version'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "send" -d 'Send files, a text, or what comes in on standard input'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "tx" -d 'Send files, a text, or what comes in on standard input'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "receive" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "recv" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "rx" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "pipe" -d 'Join standard input and output to the other side\'s'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "bench" -d 'Measure how fast the path to the other side is'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "addr" -d 'Show the public address as STUN servers see it'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "stun" -d 'Show the public address as STUN servers see it'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "nat" -d 'Find out what the NAT here does'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "serve" -d 'Serve STUN, for labs, CI and small teams'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "token" -d 'Show what a token or a session description says'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "selftest" -d 'Check that this build works on this machine'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "man" -d 'Print the manual page, or write all pages to a folder'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l text -d 'Send this text, which the other side shows; - reads it from standard input' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l to -d 'Join the invite that `receive --invite` printed, or answer an offer; @FILE or - reads it' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand send" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand send" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand send" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand send" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand send" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l text -d 'Send this text, which the other side shows; - reads it from standard input' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l to -d 'Join the invite that `receive --invite` printed, or answer an offer; @FILE or - reads it' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l join -d 'Join an invite that comes through --via, or is asked for'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l send-only -d 'Take nothing from the other side, and do not touch stdout'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l recv-only -d 'Send nothing, and do not read stdin'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l raw -d 'Plain messages, for a program that does not speak knothole\'s protocol'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand pipe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l time -d 'How long each direction lasts, 1 to 3600; the shorter wish of both sides counts' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l expires -d 'How long an invite stays good, 30d at most' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l qr-file -d 'Write the invite as a picture of its QR code, PNG or SVG by its name' -r
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l qr-image -d 'Join the invite in a picture of its QR code, PNG or JPEG; - for standard input' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l turn -d 'TURN server to relay through when there is no direct path' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l turn-user -d 'User name for the TURN server' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l join -d 'Join an invite that comes through --via, or is asked for'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l send-only -d 'Measure only what goes from here to the other side'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l recv-only -d 'Measure only what comes from the other side'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l copy -d 'Ask the terminal to copy what goes to the other side, such as the invite or the reply code'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l sdp -d 'Meet any WebRTC program: print an SDP offer and ask for the answer, or answer an offer'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l verify -d 'Have both sides compare six words on their screens before anything is sent'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l no-repair -d 'Leave all repair of lost packets to SCTP'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l watch -d 'Ask again and again, this often, and print what has changed' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l timeout -d 'How long one server may take over TCP and TLS' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l insecure -d 'Take any certificate of a stuns: server'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand addr" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l watch -d 'Ask again and again, this often, and print what has changed' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l timeout -d 'How long one server may take over TCP and TLS' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l insecure -d 'Take any certificate of a stuns: server'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand stun" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l lifetime -d 'Also search how long an idle mapping lives; takes minutes' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l lifetime-max -d 'The longest idle time that --lifetime tries' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l bind -d 'Use this local address, and this port if one is given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l no-gateway -d 'Leave the router alone: do not ask it for its outer address and a mapping'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l explain -d 'Show the plan, every probe, what came back, and what it rules out'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand nat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l listen -d 'Listen at this address, once a family; the port is 3478 unless given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l alternate -d 'A second address of the same family, for RFC 5780; the port is 3479 unless given' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l rate -d 'Requests a second that each source may make; twice as many at once' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l metrics -d 'Tell counters over HTTP at this address, for Prometheus (GET /metrics)' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l stun -d 'Serve STUN; the only service there is so far'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l no-alternate -d 'Use one address a family, also where there are two'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand token" -l to -d 'Print the session description in this form, with its password, and nothing else' -r -f -a "sdp\t'SDP, as it is'
json\t'SDP in JSON with its type, as browsers make it'"
complete -c knothole -n "__fish_knothole_using_subcommand token" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand token" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand token" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand token" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l timeout -d 'How long the whole test may take' -r -f
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l config -d 'Read settings from this file; \'\' for none' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand completions" -s h -l help -d 'Print help'
complete -c knothole -n "__fish_knothole_using_subcommand man" -s h -l help -d 'Print help'
complete -c knothole -n "__fish_knothole_using_subcommand receive recv rx" -f
complete -c knothole -n "__fish_knothole_using_subcommand token" -f
complete -c knothole -n "__fish_knothole_using_subcommand completions" -f -a "bash elvish fish powershell zsh"
complete -c knothole -n "__fish_knothole_using_subcommand man" -f -a "(__fish_complete_directories)"
