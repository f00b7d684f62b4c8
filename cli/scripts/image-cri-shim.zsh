#compdef image-cri-shim
# Made by `image-cri-shim completions zsh`.

_image_cri_shim() {
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    commands=(
        'serve:Stand between kubelet and the runtime'
        'resolve:Show what would be pulled for an image, and why'
        'check-registry:Check every configured registry, or those named'
        'status:Show how the running shim is'
        'history:Show recent image calls: each registry that was tried, what it said, bytes and time'
        'doctor:Look at everything between a pod and its image, and say what mends it'
        'pull:Pull images through the running shim, so that they are there before their pods'
        'install-service:Install and enable the systemd service, and with --wire-kubelet put it to use'
        'uninstall-service:Stop and remove the service, and put back every file as it was'
        'hand-over:Have the running service go on as this version, without a gap'
        'demo:Show the main job on a machine with nothing on it'
        'completions:Print the completion script of a shell'
        'help:Show the help of a command, or this list of them'
        'version:Print the version, and what the command runs on'
        'config:Show the configuration in force, check a file, or write one'
        'switch:Switch this node to another version, as the fleet'\''s pod asks for it'
        'fleet:Switch the nodes of a cluster, as the pods of the Helm chart do'
    )
    _arguments -C \
        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
        --version'[Print the version]' \
        '(-h --help)'{-h,--help}'[Show help and exit]' \
        '1:command:->command' \
        '*::argument:->argument' && return
    case $state in
        command) _describe -t commands command commands ;;
        argument)
            case $line[1] in
                serve)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --dry-run'[Check everything, warn of what cannot work on this machine, print the configuration in force with secrets masked, exit]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                resolve)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --offline'[Ask no registry; show the names alone]' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                check-registry)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                status)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-w --watch)'{-w,--watch}'[Show it anew every two seconds]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                history)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        --failed'[Only calls that failed]' \
                        --image'[Only images with TEXT in their name]:value:' \
                        --pod'[Only pods with TEXT in namespace/name]:value:' \
                        '(-F --follow)'{-F,--follow}'[Go on with what ends, until interrupted]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                doctor)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --pull'[Prove it\: pull IMAGE through the shim]:value:' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                pull)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        '(-l --list)'{-l,--list}'[Pull what FILE lists\: an image a line, # for comments; - is standard input]:file:_files' \
                        '(-j --jobs)'{-j,--jobs}'[How many to pull at a time]:value:' \
                        --jitter'[Wait first, at random up to this long (10m)\: many nodes spread their pulls]:value:' \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                install-service)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --now'[Start the service, restart what is pointed at it]' \
                        --wire-kubelet'[Point kubelet and crictl at the shim]' \
                        --wire-runtime'[Tell the runtime how to reach the registries]' \
                        --dry-run'[Show what would change as a diff, and change nothing]' \
                        --root'[Work on an unpacked image at DIR]:folder:_files -/' \
                        --command'[The command that the unit starts]:file:_files' \
                        --force'[Overwrite files changed by hand; wire kubelet while doctor fails]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                uninstall-service)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --purge'[Remove the configuration, too, if it was not there]' \
                        --dry-run'[Show what would change as a diff, and change nothing]' \
                        --root'[Work on an unpacked image at DIR]:folder:_files -/' \
                        --force'[Restore files that were changed by hand, too]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                hand-over)
                    _arguments \
                        '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                        --command'[What is to serve, if not this command]:file:_files' \
                        --or-restart'[Restart a service that cannot hand over]' \
                        --prepare'[Load what the running service still needs, before its files are replaced]' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                demo)
                    _arguments \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                completions)
                    _arguments \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:word:(bash zsh fish)'
                    ;;
                help)
                    _arguments \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:word:(serve resolve check-registry status history doctor pull install-service uninstall-service hand-over demo completions help version config switch fleet)'
                    ;;
                version)
                    _arguments \
                        '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '*:argument:'
                    ;;
                config)
                    _arguments -C \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '1:command:(show check init schema)' \
                        '*::argument:->below' && return
                    case $line[1] in
                        show)
                            _arguments \
                                '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                                '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                        check)
                            _arguments \
                                '(-f --file)'{-f,--file}'[Configuration file (default /etc/image-cri-shim.yaml)]:file:_files' \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:file:_files'
                            ;;
                        init)
                            _arguments \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:file:_files'
                            ;;
                        schema)
                            _arguments \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                    esac
                    ;;
                switch)
                    _arguments -C \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '1:command:(run status)' \
                        '*::argument:->below' && return
                    case $line[1] in
                        run)
                            _arguments \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                        status)
                            _arguments \
                                --root'[Look at the node whose root is DIR]:folder:_files -/' \
                                '(-o --output)'{-o,--output}'[How to print the result]:value:(table json yaml)' \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                    esac
                    ;;
                fleet)
                    _arguments -C \
                        '(-h --help)'{-h,--help}'[Show help and exit]' \
                        '1:command:(agent remove)' \
                        '*::argument:->below' && return
                    case $line[1] in
                        agent)
                            _arguments \
                                --node'[The pod'\''s node]:value:' \
                                --revision'[What this pod is for]:value:' \
                                --namespace'[Of the objects]:value:' \
                                --name'[What their names begin with]:value:' \
                                --host'[Where the node'\''s root is mounted]:folder:_files -/' \
                                --bundle'[The bundle to put on the node]:folder:_files -/' \
                                --node-file'[What the node'\''s file is to be]:file:_files' \
                                --run-dir'[Where the file `ready` is written]:folder:_files -/' \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                        remove)
                            _arguments \
                                --namespace'[Of the objects]:value:' \
                                --name'[What their names begin with]:value:' \
                                --wait'[Until every node is as it was before]' \
                                '(-h --help)'{-h,--help}'[Show help and exit]' \
                                '*:argument:'
                            ;;
                    esac
                    ;;
            esac
            ;;
    esac
}

if [[ $funcstack[1] == _image-cri-shim ]]; then
    _image_cri_shim "$@"
else
    compdef _image_cri_shim image-cri-shim
fi
