# bash completion for image-cri-shim
# Made by `image-cri-shim completions bash`.

_image_cri_shim() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local command= word skip= options= words= files= i
    COMPREPLY=()
    # Readline splits `--output=json` at the equals sign.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = ]]; then
            continue
        elif [[ -n $skip ]]; then
            skip=
        else
            case $word in
                -f | --file) skip=1 ;;
                -*) ;;
                *)
                    command=${command:+$command }$word
                    case $command in
                        config | switch | fleet) ;;
                        *) break ;;
                    esac
                    ;;
            esac
        fi
    done
    case $command:$prev in
        :-f | :--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        serve:-f | serve:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        resolve:-f | resolve:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        resolve:-o | resolve:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        check-registry:-f | check-registry:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        check-registry:-o | check-registry:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        status:-f | status:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        status:-o | status:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        history:-f | history:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        history:-o | history:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        history:--image)
            return
            ;;
        history:--pod)
            return
            ;;
        doctor:-f | doctor:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        doctor:--pull)
            return
            ;;
        doctor:-o | doctor:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        pull:-f | pull:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        pull:-l | pull:--list)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        pull:-j | pull:--jobs)
            return
            ;;
        pull:--jitter)
            return
            ;;
        pull:-o | pull:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        install-service:-f | install-service:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        install-service:--root)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        install-service:--command)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        uninstall-service:-f | uninstall-service:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        uninstall-service:--root)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        hand-over:-f | hand-over:--file)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        hand-over:--command)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        version:-o | version:--output)
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        "config show:-f" | "config show:--file")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        "config show:-o" | "config show:--output")
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        "config check:-f" | "config check:--file")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        "switch status:--root")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        "switch status:-o" | "switch status:--output")
            mapfile -t COMPREPLY < <(compgen -W "table json yaml" -- "$cur")
            return
            ;;
        "fleet agent:--node")
            return
            ;;
        "fleet agent:--revision")
            return
            ;;
        "fleet agent:--namespace")
            return
            ;;
        "fleet agent:--name")
            return
            ;;
        "fleet agent:--host")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        "fleet agent:--bundle")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        "fleet agent:--node-file")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        "fleet agent:--run-dir")
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        "fleet remove:--namespace")
            return
            ;;
        "fleet remove:--name")
            return
            ;;
    esac
    case $command in
        "") options="-f --file --version -h --help" ;;
        serve) options="-f --file --dry-run -h --help" ;;
        resolve) options="-f --file --offline -o --output -h --help" ;;
        check-registry) options="-f --file -o --output -h --help" ;;
        status) options="-f --file -o --output -w --watch -h --help" ;;
        history) options="-f --file -o --output --failed --image --pod -F --follow -h --help" ;;
        doctor) options="-f --file --pull -o --output -h --help" ;;
        pull) options="-f --file -l --list -j --jobs --jitter -o --output -h --help" ;;
        install-service) options="-f --file --now --wire-kubelet --wire-runtime --dry-run --root --command --force -h --help" ;;
        uninstall-service) options="-f --file --purge --dry-run --root --force -h --help" ;;
        hand-over) options="-f --file --command --or-restart --prepare -h --help" ;;
        demo) options="-h --help" ;;
        completions) options="-h --help" words="bash zsh fish" ;;
        help) options="-h --help" words="serve resolve check-registry status history doctor pull install-service uninstall-service hand-over demo completions help version config switch fleet" ;;
        version) options="-o --output -h --help" ;;
        config) options="-h --help" words="show check init schema" ;;
        "config show") options="-f --file -o --output -h --help" ;;
        "config check") options="-f --file -h --help" files=1 ;;
        "config init") options="-h --help" files=1 ;;
        "config schema") options="-h --help" ;;
        switch) options="-h --help" words="run status" ;;
        "switch run") options="-h --help" ;;
        "switch status") options="--root -o --output -h --help" ;;
        fleet) options="-h --help" words="agent remove" ;;
        "fleet agent") options="--node --revision --namespace --name --host --bundle --node-file --run-dir -h --help" ;;
        "fleet remove") options="--namespace --name --wait -h --help" ;;
    esac
    if [[ $cur == -* ]]; then
        words=$options
    elif [[ -z $command ]]; then
        words="serve resolve check-registry status history doctor pull install-service uninstall-service hand-over demo completions help version config switch fleet"
    elif [[ -n $files ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _image_cri_shim image-cri-shim
