# U-Boot's part of atomic updates. `mkimage -T script -d boot.cmd boot.scr` makes what distro boot finds on the ESP.
#
# Which slot is started is in U-Boot's environment; the agent writes it, and this script counts the boots of a trial in it:
#
#   BOOT_ORDER          the slots in the order in which they are looked at
#   BOOT_<slot>_LEFT    boots that are left, in hexadecimal; 0: passed over
#   BOOT_<slot>_TRIES   boots that the trial has; 0 or unset: proven, nothing is counted and nothing is written
#
# Where there is a file uboot.env on the ESP, the variables are in that file, and the board's own environment is left alone; otherwise
# they are in the board's environment, which `saveenv` must be able to write.

setenv upright_esp "${devtype} ${devnum}:${distro_bootpart}"
setenv upright_file EFI/upright/uboot.env
setenv upright_vars "BOOT_ORDER BOOT_A_LEFT BOOT_A_TRIES BOOT_B_LEFT BOOT_B_TRIES"

if test -e ${upright_esp} ${upright_file}; then
    load ${upright_esp} ${loadaddr} ${upright_file}
    setenv upright_size 0x${filesize}
    env import -c ${loadaddr} ${upright_size} ${upright_vars}
    setenv upright_save "env export -c -s ${upright_size} ${loadaddr} ${upright_vars} && fatwrite ${upright_esp} ${loadaddr} ${upright_file} ${upright_size}"
else
    setenv upright_save saveenv
fi

# Without an environment that can be read, whatever starts is better than nothing.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
test -n "${BOOT_A_TRIES}" || setenv BOOT_A_TRIES 0
test -n "${BOOT_B_TRIES}" || setenv BOOT_B_TRIES 0

# Comes back only if the slot does not start.
setenv upright_start 'load ${upright_esp} ${kernel_addr_r} EFI/upright/${upright_slot}.efi && bootefi ${kernel_addr_r} ${fdtcontroladdr}; echo "slot ${upright_slot} does not start"'

# A trial that cannot be counted is none.
for slot in ${BOOT_ORDER}; do
    if test "${slot}" = A && test 0x${BOOT_A_LEFT} -gt 0; then
        setenv upright_slot a
        if test 0x${BOOT_A_TRIES} -eq 0; then
            run upright_start
        else
            setexpr BOOT_A_LEFT 0x${BOOT_A_LEFT} - 1
            if run upright_save; then run upright_start; fi
        fi
    fi
    if test "${slot}" = B && test 0x${BOOT_B_LEFT} -gt 0; then
        setenv upright_slot b
        if test 0x${BOOT_B_TRIES} -eq 0; then
            run upright_start
        else
            setexpr BOOT_B_LEFT 0x${BOOT_B_LEFT} - 1
            if run upright_save; then run upright_start; fi
        fi
    fi
done

# A system that was passed over beats none.
for slot in ${BOOT_ORDER}; do
    if test "${slot}" = A; then setenv upright_slot a; run upright_start; fi
    if test "${slot}" = B; then setenv upright_slot b; run upright_start; fi
done

echo "no slot starts"
sleep 10
reset
