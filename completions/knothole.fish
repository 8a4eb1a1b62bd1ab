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
complete -c knothole -n "__fish_knothole_needs_command" -f -a "send" -d 'Send files, or what comes in on standard input'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "tx" -d 'Send files, or what comes in on standard input'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "receive" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "recv" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "rx" -d 'Receive what someone sends'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "token" -d 'Show what a token says'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "selftest" -d 'Check that this build works on this machine'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "completions" -d 'Print the completion script for a shell'
complete -c knothole -n "__fish_knothole_needs_command" -f -a "man" -d 'Print the manual page, or write all pages to a folder'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l to -d 'Join an invite that `receive --invite` printed; @FILE or - to read it from there' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l expires -d 'How long an invite stays good, 30d at most' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn -d 'TURN server to relay through when there is no direct path' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn-user -d 'User name for the TURN server' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l bind -d 'Use this local address, and this port if one is given' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r
complete -c knothole -n "__fish_knothole_using_subcommand send" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand send" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand send" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand send" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l to -d 'Join an invite that `receive --invite` printed; @FILE or - to read it from there' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l expires -d 'How long an invite stays good, 30d at most' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn -d 'TURN server to relay through when there is no direct path' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn-user -d 'User name for the TURN server' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l bind -d 'Use this local address, and this port if one is given' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand tx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l expires -d 'How long an invite stays good, 30d at most' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn -d 'TURN server to relay through when there is no direct path' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn-user -d 'User name for the TURN server' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l bind -d 'Use this local address, and this port if one is given' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand receive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l expires -d 'How long an invite stays good, 30d at most' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn -d 'TURN server to relay through when there is no direct path' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn-user -d 'User name for the TURN server' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l bind -d 'Use this local address, and this port if one is given' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand recv" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s o -l output -d 'Where to put it: a folder, a file name, or - for stdout' -r -F
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l expires -d 'How long an invite stays good, 30d at most' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l via -d 'Exchange invite and reply as files in a folder that both sides see' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l stun -d 'STUN servers to learn the public address from; \'\' for none' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn -d 'TURN server to relay through when there is no direct path' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn-user -d 'User name for the TURN server' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l turn-pass -d 'Password for the TURN server; better given in the environment' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l bind -d 'Use this local address, and this port if one is given' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l timeout -d 'How long to wait for a path to the peer, and for a peer that has gone silent' -r
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l qr -d 'When to show a QR code of the token' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l invite -d 'Print an invite here, for `send --to` on the other side'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s y -l yes -d 'Accept without asking'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l overwrite -d 'Replace files that exist'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l rename -d 'Give a new name to what would replace a file that exists'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s 4 -l ipv4 -d 'Use IPv4 only'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s 6 -l ipv6 -d 'Use IPv6 only'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand rx" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand token" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand token" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand token" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l timeout -d 'How long the whole test may take' -r
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l color -d 'When to use colours' -r -f -a "auto\t'When it makes sense here'
always\t'In any case'
never\t'Not at all'"
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l json -d 'Print JSON on stdout: one event a line, or one object'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s q -l quiet -d 'Say nothing but errors and questions'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s v -l verbose -d 'Say more; twice for even more'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -l no-progress -d 'Show no progress bar and no line that rewrites itself'
complete -c knothole -n "__fish_knothole_using_subcommand selftest" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c knothole -n "__fish_knothole_using_subcommand completions" -s h -l help -d 'Print help'
complete -c knothole -n "__fish_knothole_using_subcommand man" -s h -l help -d 'Print help'
