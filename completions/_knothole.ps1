
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'knothole' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'knothole'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'knothole' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send files, or what comes in on standard input')
            [CompletionResult]::new('tx', 'tx', [CompletionResultType]::ParameterValue, 'Send files, or what comes in on standard input')
            [CompletionResult]::new('receive', 'receive', [CompletionResultType]::ParameterValue, 'Receive what someone sends')
            [CompletionResult]::new('recv', 'recv', [CompletionResultType]::ParameterValue, 'Receive what someone sends')
            [CompletionResult]::new('rx', 'rx', [CompletionResultType]::ParameterValue, 'Receive what someone sends')
            [CompletionResult]::new('token', 'token', [CompletionResultType]::ParameterValue, 'Show what a token says')
            [CompletionResult]::new('selftest', 'selftest', [CompletionResultType]::ParameterValue, 'Check that this build works on this machine')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print the completion script for a shell')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Print the manual page, or write all pages to a folder')
            break
        }
        'knothole;send' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Join an invite that `receive --invite` printed; @FILE or - to read it from there')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'How long an invite stays good, 30d at most')
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Exchange invite and reply as files in a folder that both sides see')
            [CompletionResult]::new('--stun', '--stun', [CompletionResultType]::ParameterName, 'STUN servers to learn the public address from; '''' for none')
            [CompletionResult]::new('--turn', '--turn', [CompletionResultType]::ParameterName, 'TURN server to relay through when there is no direct path')
            [CompletionResult]::new('--turn-user', '--turn-user', [CompletionResultType]::ParameterName, 'User name for the TURN server')
            [CompletionResult]::new('--turn-pass', '--turn-pass', [CompletionResultType]::ParameterName, 'Password for the TURN server; better given in the environment')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Use this local address, and this port if one is given')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a path to the peer, and for a peer that has gone silent')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'When to show a QR code of the token')
            [CompletionResult]::new('-4', '-4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('--ipv4', '--ipv4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('-6', '-6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--ipv6', '--ipv6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;tx' {
            [CompletionResult]::new('--to', '--to', [CompletionResultType]::ParameterName, 'Join an invite that `receive --invite` printed; @FILE or - to read it from there')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'How long an invite stays good, 30d at most')
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Exchange invite and reply as files in a folder that both sides see')
            [CompletionResult]::new('--stun', '--stun', [CompletionResultType]::ParameterName, 'STUN servers to learn the public address from; '''' for none')
            [CompletionResult]::new('--turn', '--turn', [CompletionResultType]::ParameterName, 'TURN server to relay through when there is no direct path')
            [CompletionResult]::new('--turn-user', '--turn-user', [CompletionResultType]::ParameterName, 'User name for the TURN server')
            [CompletionResult]::new('--turn-pass', '--turn-pass', [CompletionResultType]::ParameterName, 'Password for the TURN server; better given in the environment')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Use this local address, and this port if one is given')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a path to the peer, and for a peer that has gone silent')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'When to show a QR code of the token')
            [CompletionResult]::new('-4', '-4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('--ipv4', '--ipv4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('-6', '-6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--ipv6', '--ipv6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;receive' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'How long an invite stays good, 30d at most')
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Exchange invite and reply as files in a folder that both sides see')
            [CompletionResult]::new('--stun', '--stun', [CompletionResultType]::ParameterName, 'STUN servers to learn the public address from; '''' for none')
            [CompletionResult]::new('--turn', '--turn', [CompletionResultType]::ParameterName, 'TURN server to relay through when there is no direct path')
            [CompletionResult]::new('--turn-user', '--turn-user', [CompletionResultType]::ParameterName, 'User name for the TURN server')
            [CompletionResult]::new('--turn-pass', '--turn-pass', [CompletionResultType]::ParameterName, 'Password for the TURN server; better given in the environment')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Use this local address, and this port if one is given')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a path to the peer, and for a peer that has gone silent')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'When to show a QR code of the token')
            [CompletionResult]::new('--invite', '--invite', [CompletionResultType]::ParameterName, 'Print an invite here, for `send --to` on the other side')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--overwrite', '--overwrite', [CompletionResultType]::ParameterName, 'Replace files that exist')
            [CompletionResult]::new('--rename', '--rename', [CompletionResultType]::ParameterName, 'Give a new name to what would replace a file that exists')
            [CompletionResult]::new('-4', '-4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('--ipv4', '--ipv4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('-6', '-6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--ipv6', '--ipv6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;recv' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'How long an invite stays good, 30d at most')
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Exchange invite and reply as files in a folder that both sides see')
            [CompletionResult]::new('--stun', '--stun', [CompletionResultType]::ParameterName, 'STUN servers to learn the public address from; '''' for none')
            [CompletionResult]::new('--turn', '--turn', [CompletionResultType]::ParameterName, 'TURN server to relay through when there is no direct path')
            [CompletionResult]::new('--turn-user', '--turn-user', [CompletionResultType]::ParameterName, 'User name for the TURN server')
            [CompletionResult]::new('--turn-pass', '--turn-pass', [CompletionResultType]::ParameterName, 'Password for the TURN server; better given in the environment')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Use this local address, and this port if one is given')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a path to the peer, and for a peer that has gone silent')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'When to show a QR code of the token')
            [CompletionResult]::new('--invite', '--invite', [CompletionResultType]::ParameterName, 'Print an invite here, for `send --to` on the other side')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--overwrite', '--overwrite', [CompletionResultType]::ParameterName, 'Replace files that exist')
            [CompletionResult]::new('--rename', '--rename', [CompletionResultType]::ParameterName, 'Give a new name to what would replace a file that exists')
            [CompletionResult]::new('-4', '-4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('--ipv4', '--ipv4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('-6', '-6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--ipv6', '--ipv6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;rx' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'Where to put it: a folder, a file name, or - for stdout')
            [CompletionResult]::new('--expires', '--expires', [CompletionResultType]::ParameterName, 'How long an invite stays good, 30d at most')
            [CompletionResult]::new('--via', '--via', [CompletionResultType]::ParameterName, 'Exchange invite and reply as files in a folder that both sides see')
            [CompletionResult]::new('--stun', '--stun', [CompletionResultType]::ParameterName, 'STUN servers to learn the public address from; '''' for none')
            [CompletionResult]::new('--turn', '--turn', [CompletionResultType]::ParameterName, 'TURN server to relay through when there is no direct path')
            [CompletionResult]::new('--turn-user', '--turn-user', [CompletionResultType]::ParameterName, 'User name for the TURN server')
            [CompletionResult]::new('--turn-pass', '--turn-pass', [CompletionResultType]::ParameterName, 'Password for the TURN server; better given in the environment')
            [CompletionResult]::new('--bind', '--bind', [CompletionResultType]::ParameterName, 'Use this local address, and this port if one is given')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a path to the peer, and for a peer that has gone silent')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--qr', '--qr', [CompletionResultType]::ParameterName, 'When to show a QR code of the token')
            [CompletionResult]::new('--invite', '--invite', [CompletionResultType]::ParameterName, 'Print an invite here, for `send --to` on the other side')
            [CompletionResult]::new('-y', '-y', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--yes', '--yes', [CompletionResultType]::ParameterName, 'Accept without asking')
            [CompletionResult]::new('--overwrite', '--overwrite', [CompletionResultType]::ParameterName, 'Replace files that exist')
            [CompletionResult]::new('--rename', '--rename', [CompletionResultType]::ParameterName, 'Give a new name to what would replace a file that exists')
            [CompletionResult]::new('-4', '-4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('--ipv4', '--ipv4', [CompletionResultType]::ParameterName, 'Use IPv4 only')
            [CompletionResult]::new('-6', '-6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--ipv6', '--ipv6', [CompletionResultType]::ParameterName, 'Use IPv6 only')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;token' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;selftest' {
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long the whole test may take')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colours')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON on stdout: one event a line, or one object')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but errors and questions')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more; twice for even more')
            [CompletionResult]::new('--no-progress', '--no-progress', [CompletionResultType]::ParameterName, 'Show no progress bar and no line that rewrites itself')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'knothole;completions' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'knothole;man' {
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
